"""The compiler's driver: builds artifact folders from specs and weights, with MAX's compiler in its own processes."""
