"""What people see: tables, progress, TensorBoard, model cards and pages."""
