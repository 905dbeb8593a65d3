-- title: Planted passages in numbers
-- question: What share of the sequences in planted passages is memorized, by length, copies and place?
-- note: Rates of the sequences that a passage begins with, has in its middle, and ends with; rate: of all.

SELECT run_label AS model, passage, copies, rate, rate_low, rate_high, rate_first, rate_inside, rate_last
FROM passages.rate_by_passage
WHERE texts >= 5
ORDER BY run_label, document_tokens, sequence_count
