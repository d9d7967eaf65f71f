"""Tests of a trial's course: training, accumulation, pretraining and evaluation."""
