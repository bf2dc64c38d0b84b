# The study's trainings: what each part (eval/study/answer.py: PARTS) fits on the cached features, `study_PART_train`.
