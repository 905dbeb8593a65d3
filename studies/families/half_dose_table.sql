-- title: Copies until half of the texts are known, in numbers
-- question: In how many copies must a text stand until each model knows one in two?

SELECT g.architecture, g.size, copies, copies_low, copies_high
FROM grid AS g
LEFT JOIN half_doses USING (run_label)
ORDER BY place, size_rank
