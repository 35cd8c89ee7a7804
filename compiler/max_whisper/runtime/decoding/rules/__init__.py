"""The decoding rules, one file each: docs/adding-a-rule.md says how to add one."""
