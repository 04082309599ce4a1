"""From evidence on chromosome types and cells to a verdict on a patient."""
