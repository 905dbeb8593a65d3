-- title: Code among all sequences
-- question: What share of the drawn sequences is code?

SELECT sum(sequences) FILTER (domain IN (FROM code_domains)) / sum(sequences) AS share_of_all,
       sum(memorized) FILTER (domain IN (FROM code_domains) AND size_rank = (SELECT min(size_rank) FROM grid))
           / sum(memorized) FILTER (size_rank = (SELECT min(size_rank) FROM grid)) AS share_of_smallest,
       sum(memorized) FILTER (domain IN (FROM code_domains) AND size_rank = (SELECT max(size_rank) FROM grid))
           / sum(memorized) FILTER (size_rank = (SELECT max(size_rank) FROM grid)) AS share_of_largest
FROM grid
JOIN domain_shares USING (run_label)
