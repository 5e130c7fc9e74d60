//! Tars in all dialects.
