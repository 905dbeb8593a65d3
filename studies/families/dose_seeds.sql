-- title: The dose for one half in a second training
-- question: Does another training with the same texts give the same dose?
-- note: Copies at which half of the texts are memorized, interpolated; the same texts, other weights and another order of
--   documents. Intervals as above: of the texts, not of the training.

SELECT a.architecture, a.size,
       f.copies AS first_seed, f.copies_low AS first_seed_low, f.copies_high AS first_seed_high,
       s.copies AS second_seed, s.copies_low AS second_seed_low, s.copies_high AS second_seed_high
FROM described AS a
JOIN described AS b ON a.architecture = b.architecture AND a.size = b.size AND a.role = 'size' AND b.role = 'second seed'
JOIN half_doses AS f ON f.run_label = a.run_label
JOIN half_doses AS s ON s.run_label = b.run_label
ORDER BY a.place, a.size_rank
