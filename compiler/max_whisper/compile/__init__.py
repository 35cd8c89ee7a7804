"""Spec and weights -> artifact folder, by MAX's compiler in processes of its own."""
