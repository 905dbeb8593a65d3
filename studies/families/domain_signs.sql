-- title: C++ and other domains at equal counts
-- question: In how many models is C++ memorized more often than another domain, of sequences that occur equally often?
-- note: Models of all sizes whose rates differ. Documents: fewest documents behind the sequences of either domain. p: exact sign
--   test over models, and after Holm's correction for the rows of the table. All models are given the same sequences, so that p
--   is about models, not about other documents.

WITH rates AS (
    SELECT run_label, domain, frequency, frequency_bucket, rate, documents
    FROM frequency_in_domains
    SEMI JOIN grid USING (run_label)
    WHERE sequences >= 10 AND frequency_bucket BETWEEN 1 AND 5
),
signs AS (
    SELECT o.domain AS other_domain, c.frequency, c.frequency_bucket,
           count_if(c.rate <> o.rate)::BIGINT AS models,
           count_if(c.rate > o.rate)::BIGINT AS more_of_cpp,
           min(least(c.documents, o.documents)) AS documents
    FROM rates AS c
    JOIN rates AS o USING (run_label, frequency_bucket)
    WHERE c.domain = 'C++' AND o.domain IN ('German Law', 'Python')
    GROUP BY ALL
),
tested AS (SELECT *, sign_test(more_of_cpp, models) AS p FROM signs)
SELECT other_domain, frequency AS occurrences, models, more_of_cpp AS "more_of_C++", documents,
       p_text(p) AS p,
       p_text(holm_among(p, list(p) OVER ())) AS p_corrected
FROM tested
ORDER BY other_domain, frequency_bucket
