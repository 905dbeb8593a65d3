-- title: What was planted
-- question: How many texts were planted, in how many copies?

SELECT max(sequences) AS texts_of_each,
       count(DISTINCT sequence_count) AS kinds,
       max(sequence_count) AS most_copies,
       (SELECT sum(memorized) / sum(sequences) FROM grid JOIN rate_by_copies USING (run_label) WHERE sequence_count = 0)
           AS rate_never_planted
FROM rate_by_copies
