"""Tests of what people look at: tables, progress, TensorBoard, images and exports."""
