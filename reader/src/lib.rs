//! Opens, walks and reads EROFS images.
#![forbid(unsafe_code)]
