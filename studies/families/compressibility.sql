-- title: Compressibility of each architecture
-- question: How much of its context does a model need to give a memorized continuation?
-- note: Of the sequences that a model memorized, the share that it still continues word for word after at most this
--   share of the context, its last tokens. Models that were probed; 95 % intervals, bootstrapped by document.
-- figure: line
-- x: ratio | Context, share of the whole
-- y: share | Memorized sequences | percent
-- interval: share_low, share_high
-- series: size
-- panel: architecture
-- columns: 2

SELECT g.architecture, g.size, ratio, share, share_low, share_high
FROM grid AS g
JOIN compression USING (run_label)
ORDER BY place, size_rank, ratio
