-- title: Runs beside their controls
-- question: How much of the rate is left where nothing can have been memorized?
-- note: The largest size, and models that never saw the corpus, with the like ones that did. Shuffled suffixes: the continuation is compared with the
--   suffix of another sequence. Other corpus: a model trained on other text. Unseen text: held-out sequences whose suffix
--   the corpus never holds. 95 % intervals, bootstrapped by document; the scale is logarithmic, with 0 apart.
-- figure: dots
-- x: model | Model
-- y: rate | Completed sequences | percent-log
-- interval: rate_low, rate_high
-- series: condition

SELECT d.architecture || ' ' || d.size || CASE WHEN role = 'size' THEN '' ELSE ', other text' END AS model,
       condition, sequences, memorized, rate, rate_low, rate_high
FROM described AS d
JOIN controls AS c ON c.model = d.run_label
WHERE role = 'other-corpus'
    OR (role = 'size' AND (size_rank = (SELECT max(size_rank) FROM grid)
                           -- and the twin of what was trained on other text
                           OR (architecture, size) IN (SELECT (architecture, size) FROM described
                                                       WHERE role = 'other-corpus')))
ORDER BY role = 'size' DESC, place, size_rank DESC,
         list_position(['the run', 'unseen text', 'shuffled suffixes', 'untrained', 'other corpus'], condition)
