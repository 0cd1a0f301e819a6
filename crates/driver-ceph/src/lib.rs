//! Disks in Ceph: the Pool trait over librbd, which is opened at run time.
