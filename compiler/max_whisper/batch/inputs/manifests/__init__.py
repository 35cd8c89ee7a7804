"""The kinds of manifests, a file each; see manifest.py."""
