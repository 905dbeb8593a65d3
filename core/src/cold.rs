//! Files that are not in memory: reads are asked for ahead of their use, many at a time.
//!
//! A processor prefetch of a page that is not in memory does nothing, and the read that follows stops the whole thread for
//! one disk access. When a thread sees that it reads from disk, it asks the kernel for the pages of all its searches, and
//! lets them arrive together (`posix_fadvise`, WILLNEED). Asking costs about a microsecond, which warm lookups must not pay.

use std::fs::File;

/// Search steps between two looks at the thread's reads from disk.
const STEPS: usize = 128;

/// Whether this thread's lookups read from disk at present.
pub struct Faults {
    steps: usize,
    blocks: i64,
    cold: bool,
}

impl Faults {
    /// Starts as the caller knows the files to be.
    pub fn new(cold: bool) -> Faults {
        Faults { steps: 0, blocks: blocks_read(), cold }
    }

    /// Takes note of a round of search steps; whether to ask for pages.
    pub fn cold(&mut self, steps: usize) -> bool {
        self.steps += steps;
        if self.steps >= STEPS {
            self.steps = 0;
            let now = blocks_read();
            self.cold = now != self.blocks;
            self.blocks = now;
        }
        self.cold
    }

    /// What `cold` said last.
    pub fn is_cold(&self) -> bool {
        self.cold
    }
}

/// Blocks that this thread made the kernel read from disk so far; 0 where the system doesn't tell.
fn blocks_read() -> i64 {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: rusage is plain numbers, for which zeros are a value; getrusage fills it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) } != 0;
        if failed { 0 } else { usage.ru_inblock }
    }
    #[cfg(not(target_os = "linux"))]
    0
}

/// Bytes that the kernel reads ahead at most for one request.
const MOST_AHEAD: usize = 128 << 10;

/// Asks the kernel to read `bytes` bytes from `offset` on, without waiting.
pub fn fetch(file: &File, offset: usize, bytes: usize) {
    #[cfg(target_os = "linux")]
    for start in (offset..offset + bytes.max(1)).step_by(MOST_AHEAD) {
        use std::os::fd::AsRawFd;
        let part = (offset + bytes.max(1) - start).min(MOST_AHEAD);
        // SAFETY: advice about an open file; wrong numbers are refused, and nothing depends on the answer.
        unsafe {
            libc::posix_fadvise(file.as_raw_fd(), start as i64, part as i64, libc::POSIX_FADV_WILLNEED);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, bytes);
}

/// Pages looked at to tell whether a map is in memory.
const SAMPLED: usize = 32;

/// Whether a part of a map is not in memory, by a few pages, evenly spaced.
pub fn is_cold(map: &[u8]) -> bool {
    #[cfg(target_os = "linux")]
    {
        let pages = map.len() / PAGE;
        (0..SAMPLED.min(pages)).any(|i| {
            let page = map.as_ptr().wrapping_add(i * pages / SAMPLED.min(pages) * PAGE).cast_mut();
            let mut resident = 1u8;
            // SAFETY: a page of a live map, which starts at a page; mincore writes one byte for it.
            let failed = unsafe { libc::mincore(page.cast(), PAGE, &raw mut resident) } != 0;
            !failed && resident & 1 == 0
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = map;
        false
    }
}

/// Bytes of a page, or a multiple: larger ones are looked at in their first bytes only.
pub const PAGE: usize = 4096;
