//! Maps whose file shrinks, or whose disk fails, while they are read: an error instead of the end of the process.
//!
//! The kernel answers such a read with SIGBUS. The handler here puts a page of zeros in its place, so that the read can go
//! on, and marks the map as broken; every lookup asks for that mark before it answers. A SIGBUS from anywhere else goes to
//! whoever handled it before. Libraries that come later (Ray) may take the signal over: every new map takes it back.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// A watched map, or a free slot when its start is 0. The handler walks these without a lock, so they are never freed.
#[derive(Default)]
struct Region {
    start: AtomicUsize,
    end: AtomicUsize,
    broken: AtomicBool,
    next: AtomicPtr<Region>,
}

static FIRST: AtomicPtr<Region> = AtomicPtr::new(std::ptr::null_mut());

/// Watches one map until it is dropped.
pub struct Watch(&'static Region);

impl Watch {
    /// Watches the map over `bytes`, which must stay mapped as long as this lives.
    pub fn new(bytes: &[u8]) -> Watch {
        install();
        let start = bytes.as_ptr().addr();
        let region = free_region(start);
        region.broken.store(false, Ordering::Relaxed);
        region.end.store(start + bytes.len(), Ordering::Release);
        Watch(region)
    }

    /// Whether a read of the map failed.
    pub fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.end.store(0, Ordering::Release);
        self.0.start.store(0, Ordering::Release);
    }
}

/// Takes a free slot, or appends one.
fn free_region(start: usize) -> &'static Region {
    for region in regions() {
        if region.start.compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return region;
        }
    }
    let region: &'static Region = Box::leak(Box::new(Region { start: AtomicUsize::new(start), ..Region::default() }));
    let place = std::ptr::from_ref(region).cast_mut();
    let mut first = FIRST.load(Ordering::Acquire);
    loop {
        region.next.store(first, Ordering::Relaxed);
        match FIRST.compare_exchange(first, place, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return region,
            Err(now) => first = now,
        }
    }
}

fn regions() -> impl Iterator<Item = &'static Region> {
    // SAFETY: the list only grows, and what it holds is never freed.
    let follow = |place: *mut Region| unsafe { place.as_ref() };
    std::iter::successors(follow(FIRST.load(Ordering::Acquire)), move |region| {
        follow(region.next.load(Ordering::Acquire))
    })
}

#[cfg(target_os = "linux")]
mod signal {
    use super::{AtomicPtr, Ordering, regions};

    /// What handled the signal before; what was put here is never freed, as the handler may be reading it.
    static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

    /// Puts the handler in place where another one is, and remembers that one.
    pub fn install() {
        // SAFETY: sigaction is plain data, for which zeros are a value; the handler has the signature SA_SIGINFO asks for
        // and calls only what is safe in a signal handler.
        unsafe {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before);
            let handler = on_sigbus as *const () as usize;
            if before.sa_sigaction == handler {
                return;
            }
            BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    }

    extern "C" fn on_sigbus(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel passes a valid siginfo_t.
        let address = unsafe { (*info).si_addr() }.addr();
        let hit = regions().find(|region| {
            region.start.load(Ordering::Acquire) <= address && address < region.end.load(Ordering::Acquire)
        });
        let replaced = hit.is_some_and(|region| {
            region.broken.store(true, Ordering::Relaxed);
            replace_page(address)
        });
        if !replaced {
            // The read is tried again, and meets the handler from before.
            // SAFETY: `BEFORE` is what sigaction returned, and was set before this handler was.
            unsafe { libc::sigaction(libc::SIGBUS, BEFORE.load(Ordering::Acquire), std::ptr::null_mut()) };
        }
    }

    fn replace_page(address: usize) -> bool {
        // SAFETY: sysconf only reads; the page belongs to a watched map, which nothing but our lookups reads, and they bound
        // every number they read.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(address & !(page - 1));
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) == start
        }
    }
}

#[cfg(target_os = "linux")]
pub use signal::install;

/// Elsewhere a map whose file shrinks ends the process.
#[cfg(not(target_os = "linux"))]
pub fn install() {}
