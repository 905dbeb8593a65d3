-- title: Held-out text by what the corpus holds of it
-- question: How much do models complete of held-out text that the corpus holds in part?
-- note: All architectures together; in brackets those with the lowest and the highest rate.

SELECT held_out, max(sequences) AS sequences, g.size,
       sum(memorized) / sum(u.sequences) AS rate,
       min(rate) AS rate_low,
       max(rate) AS rate_high
FROM grid AS g
JOIN unseen_floor AS u USING (run_label)
GROUP BY held_out, g.size, size_rank
ORDER BY starts_with(held_out, 'unseen') DESC, starts_with(held_out, 'suffix') DESC, size_rank
