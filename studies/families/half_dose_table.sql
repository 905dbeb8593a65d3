-- title: Copies until half of the texts are memorized, in numbers
-- question: At how many copies does each model memorize half of the texts?

SELECT g.architecture, g.size, copies, copies_low, copies_high
FROM grid AS g
LEFT JOIN half_doses USING (run_label)
ORDER BY place, size_rank
