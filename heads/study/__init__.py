"""The study's trainings on cached features: one module a part, which eval/study then measures."""
