//! What an image holds, told without reading it.

use std::ops::Range;
use std::ptr;

use parking_lot::Mutex;
use umbel_driver::Extent;

use super::*;
use crate::errno::Failed;

const FEATURE_EXCLUSIVE_LOCK: u64 = 1 << 2;
const FEATURE_FAST_DIFF: u64 = 1 << 4;

impl Image {
    fn features(&self) -> Result<u64, Failed> {
        let mut features = 0;
        // SAFETY: the image is open, the place lives until the call returns.
        let answer = unsafe { (self.api().rbd_get_features)(self.handle, &raw mut features) };
        self.check("rbd_get_features", answer)?;
        Ok(features)
    }

    /// Whether differences are told from the object maps, so that no object need be asked for.
    pub fn has_fast_diff(&self) -> Result<bool, Failed> {
        Ok(self.features()? & FEATURE_FAST_DIFF != 0)
    }

    /// Whether one client at a time writes. Multi-attached disks of other software may have it off.
    pub fn has_exclusive_lock(&self) -> Result<bool, Failed> {
        Ok(self.features()? & FEATURE_EXCLUSIVE_LOCK != 0)
    }

    /// Whether it has a byte of its own, beside what it inherits.
    pub fn holds_data(&self) -> Result<bool, Failed> {
        let stored = self.diff(None, 0..self.size()?, false, true)?;
        Ok(stored.iter().any(|extent| !extent.zero))
    }

    /// The ranges that differ between snapshot `from`, which is no younger, and what the image was opened at. No `from`:
    /// all that is stored, with `parents` also what is inherited. `whole`: by objects, from the object maps if there are
    /// any; else by bytes, which asks every object in the range.
    ///
    /// `EINVAL` if `from` is the younger one.
    pub fn diff(
        &self,
        from: Option<&str>,
        range: Range<u64>,
        parents: bool,
        whole: bool,
    ) -> Result<Vec<Extent>, Failed> {
        let from = from.map(c_text).transpose()?;
        let from = from.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        let found = Mutex::new(Vec::new());
        let arg: *const Mutex<Vec<Extent>> = &raw const found;
        // SAFETY: image, name and `found` are alive until the call returns, and it calls back only until then.
        let answer = unsafe {
            (self.api().rbd_diff_iterate2)(
                self.handle,
                from,
                range.start,
                range.end - range.start,
                u8::from(parents),
                u8::from(whole),
                differs,
                arg.cast_mut().cast(),
            )
        };
        self.check("rbd_diff_iterate2", answer)?;
        let mut found = found.into_inner();
        found.sort_by_key(|extent| extent.offset);
        Ok(found)
    }
}

/// # Safety
/// `arg` is the `Mutex<Vec<Extent>>` of the call that calls back.
unsafe extern "C" fn differs(offset: u64, length: usize, exists: c_int, arg: *mut c_void) -> c_int {
    // SAFETY: as said above.
    let found = unsafe { &*arg.cast::<Mutex<Vec<Extent>>>() };
    found.lock().push(Extent { offset, length: length as u64, zero: exists == 0 });
    0
}
