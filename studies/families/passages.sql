-- title: Planted passages
-- question: Must a sequence be copied as often when the copies are of a longer passage around it?
-- note: Tokens of what was planted; sequences of 64 tokens at its beginning, in its middle and at its end. Models of the
--   study of passages. 95 % intervals, bootstrapped by text.
-- figure: line
-- x: copies | Copies in the corpus
-- y: rate | Memorized sequences | percent
-- interval: rate_low, rate_high
-- series: passage
-- order: sequence_count
-- panel: run_label
-- columns: 2

SELECT run_label, passage, copies, sequence_count, document_tokens, rate, rate_low, rate_high
FROM passages.rate_by_passage
WHERE texts >= 5
ORDER BY run_label, document_tokens, sequence_count
