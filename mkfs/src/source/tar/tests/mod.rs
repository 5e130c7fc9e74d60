//! Tables over hand-built archives; each is scanned from a file and from a stream, which must agree.

mod builder;
mod dialects;
mod errors;
mod hostile;
mod layers;
mod listing;
mod packed;
mod sparse;
