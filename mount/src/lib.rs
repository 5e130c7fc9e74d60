//! Mounts EROFS images the best way the machine allows.
