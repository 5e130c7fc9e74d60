//! How much memory glibc's allocator keeps to itself, for processes that live long and start many threads.
//!
//! It gives threads up to eight arenas for each processor, and a thread gives back what it took to the arena that it is from. A thread that ends
//! leaves its arena, with all that was ever free in it, to any other that starts; so each arena comes to hold as much as whatever needed most.
//! Other C libraries keep less, and nothing is done there.

/// Arenas that threads share.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Lets all threads of this process share two arenas, from the next one that starts on.
#[cfg_attr(
    target_env = "gnu",
    allow(unsafe_code, reason = "functions of the C library without a wrapper")
)]
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and locks what it changes.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// Gives the system all whole pages in which nothing is any more.
#[cfg_attr(
    target_env = "gnu",
    allow(unsafe_code, reason = "functions of the C library without a wrapper")
)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and locks each arena while it looks at what is free there.
    unsafe {
        libc::malloc_trim(0);
    }
}
