//! How much one side of the tunnels may send before the other has taken what came before.
//!
//! Each tunnel begins with a small window. It is widened once its reader reads, as long as the windows of all tunnels
//! together stay within a bound: so a lone download is fast, and many idle readers cost little. Both sides keep the
//! same books, each for what it receives.

/// What may come on a tunnel before any credit was given.
pub const FIRST_WINDOW_BYTES: u32 = 64 << 10;
/// The widest window of a tunnel.
pub const WIDE_WINDOW_BYTES: u32 = 512 << 10;
/// Above this sum of all windows no window is widened.
const ALL_WINDOWS_BYTES: u64 = 32 << 20;

/// What all tunnels of a connection together may still receive or hold.
#[derive(Debug, Default)]
pub struct Windows {
    promised: u64,
}

/// The window of one tunnel: what may still come, and what came and was not taken.
#[derive(Debug)]
pub struct Window {
    budget: u32,
    held: u32,
}

/// The other side sent more than its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overrun;

impl Window {
    /// The window of a new tunnel.
    pub fn open(all: &mut Windows) -> Self {
        all.promised += u64::from(FIRST_WINDOW_BYTES);
        Self { budget: FIRST_WINDOW_BYTES, held: 0 }
    }

    /// Counts what came.
    pub fn arrive(&mut self, bytes: usize) -> Result<(), Overrun> {
        let bytes = u32::try_from(bytes).map_err(|_| Overrun)?;
        self.budget = self.budget.checked_sub(bytes).ok_or(Overrun)?;
        self.held += bytes;
        Ok(())
    }

    /// Counts what was taken, and says how much more the other side may send: zero while that is not worth a word.
    pub fn take(&mut self, bytes: usize, all: &mut Windows) -> u32 {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.held);
        self.held -= bytes;
        all.promised -= u64::from(bytes);
        let promised = self.budget + self.held;
        let widened = all.promised + u64::from(WIDE_WINDOW_BYTES.saturating_sub(promised));
        let target = if widened <= ALL_WINDOWS_BYTES { WIDE_WINDOW_BYTES } else { FIRST_WINDOW_BYTES };
        let grant = target.saturating_sub(promised);
        if grant < target / 4 {
            return 0;
        }
        self.budget += grant;
        all.promised += u64::from(grant);
        grant
    }

    /// Gives back what was promised to a tunnel that is over.
    pub fn close(&mut self, all: &mut Windows) {
        all.promised -= u64::from(std::mem::take(&mut self.budget) + std::mem::take(&mut self.held));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_reads_gets_a_wide_window_and_a_sender_that_runs_over_is_caught() {
        let mut all = Windows::default();
        let mut window = Window::open(&mut all);

        assert_eq!(window.arrive(FIRST_WINDOW_BYTES as usize), Ok(()));
        assert_eq!(window.arrive(1), Err(Overrun));
        assert_eq!(window.take(1000, &mut all), WIDE_WINDOW_BYTES - FIRST_WINDOW_BYTES + 1000);
        assert_eq!(window.take(1000, &mut all), 0, "too little for a word");
        assert_eq!(all.promised, u64::from(WIDE_WINDOW_BYTES) - 1000);
        window.close(&mut all);
        assert_eq!(all.promised, 0);
    }

    #[test]
    fn the_windows_of_many_readers_stay_within_a_bound_and_none_starves() {
        let mut all = Windows::default();
        let mut windows: Vec<Window> = (0..512).map(|_| Window::open(&mut all)).collect();

        for _ in 0..20 {
            for window in &mut windows {
                let came = window.budget.min(FIRST_WINDOW_BYTES);
                assert!(came > 0, "it may always send when all it sent was taken");
                window.arrive(came as usize).expect("within its budget");
                window.take(came as usize, &mut all);
            }
        }

        assert!(all.promised <= ALL_WINDOWS_BYTES + 512 * u64::from(FIRST_WINDOW_BYTES), "{}", all.promised);
    }
}
