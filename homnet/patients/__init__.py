"""From evidence on chromosome types and cells to one verdict on a patient."""
