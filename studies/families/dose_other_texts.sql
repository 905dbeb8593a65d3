-- title: The dose for one half with other texts
-- question: Do other planted texts give the same dose?
-- note: Copies at which half of the texts are memorized, interpolated as above: in this study, and of passages of 64 tokens in
--   studies/passages, which has other and fewer texts and a corpus of which a larger part was planted.

WITH curves AS (
    SELECT run_label, sequence_count AS copies, rate,
           lag(sequence_count) OVER curve AS copies_before,
           lag(rate) OVER curve AS rate_before
    FROM passages.rate_by_passage
    WHERE document_tokens = (SELECT min(document_tokens) FROM passages.rate_by_passage)
    WINDOW curve AS (PARTITION BY run_label ORDER BY sequence_count)
),
crossings AS (
    SELECT run_label,
           2 ** (log2(copies_before)
                 + (0.5 - rate_before) / (rate - rate_before) * (log2(copies) - log2(copies_before))) AS copies
    FROM curves
    WHERE rate >= 0.5 AND copies_before > 0
    QUALIFY row_number() OVER (PARTITION BY run_label ORDER BY curves.copies) = 1
)
SELECT g.run_label AS model,
       h.copies AS in_this_study, h.copies_low AS in_this_study_low, h.copies_high AS in_this_study_high,
       c.copies AS with_other_texts
FROM grid AS g
JOIN half_doses AS h USING (run_label)
LEFT JOIN crossings AS c USING (run_label)
WHERE g.run_label IN (SELECT run_label FROM passages.rate_by_passage)
ORDER BY place, size_rank
