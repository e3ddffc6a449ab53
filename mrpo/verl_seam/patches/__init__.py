"""Patches of verl that no registry or subclass can replace. One file each: the reason, the version, the change.

All are applied by ``mrpo.verl_seam.plugin`` after ``require_verl``, so on another verl release they fail instead of
changing something they were not written for.
"""
