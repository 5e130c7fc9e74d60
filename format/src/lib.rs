//! EROFS records as stored on disk, typed addresses, named feature bits, checksum.
#![forbid(unsafe_code)]
