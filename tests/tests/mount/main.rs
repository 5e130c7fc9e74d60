//! `erofs mount`, `umount` and `features`, and `mount.erofs` under mount(8): what is mounted how, what is told about it,
//! and that nothing is left behind.

mod system;
mod tells;
mod ways;
mod workshop;
