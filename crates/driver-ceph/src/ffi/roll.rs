//! Who works in a pool: a lock that all clients share, on an object of its own, with the name of each one's process for its
//! cookie. Ceph notes the address of whoever takes a lock, which is what it takes to shut that client out.

use std::ptr;

use super::*;
use crate::errno::{ENOENT, ERANGE, Failed};

const ROLL: &CStr = c"umbel_clients";
const LOCK: &CStr = c"umbel";
/// Who shares a lock names the same tag.
const TAG: &CStr = c"umbel";

/// A client on the roll.
#[derive(Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// As Ceph calls it: `client.4711`.
    pub client: String,
    pub process: String,
    /// As [`Connection::address`] has it.
    pub address: String,
}

impl IoCtx {
    /// Puts this client on the pool's roll; again is no failure.
    pub fn enroll(&self, process: &str) -> Result<(), Failed> {
        let process = c_text(process)?;
        // SAFETY: handle and strings are alive during the call; no duration: until it is broken.
        let answer = unsafe {
            (self.api().rados_lock_shared)(
                self.handle,
                ROLL.as_ptr(),
                LOCK.as_ptr(),
                process.as_ptr(),
                TAG.as_ptr(),
                c"".as_ptr(),
                ptr::null_mut(),
                LIBRADOS_LOCK_FLAG_MAY_RENEW,
            )
        };
        self.connection.check("rados_lock_shared", answer).map(drop)
    }

    pub fn enrolled(&self) -> Result<Vec<Enrolled>, Failed> {
        let mut room = 4096;
        loop {
            let (mut exclusive, mut tag) = (0, Texts::new(64));
            let (mut clients, mut cookies, mut addresses) = (Texts::new(room), Texts::new(room), Texts::new(room));
            // SAFETY: handle and strings are alive during the call, and each buffer is as long as is said.
            let answer = unsafe {
                (self.api().rados_list_lockers)(
                    self.handle,
                    ROLL.as_ptr(),
                    LOCK.as_ptr(),
                    &raw mut exclusive,
                    tag.bytes.as_mut_ptr().cast(),
                    &raw mut tag.len,
                    clients.bytes.as_mut_ptr().cast(),
                    &raw mut clients.len,
                    cookies.bytes.as_mut_ptr().cast(),
                    &raw mut cookies.len,
                    addresses.bytes.as_mut_ptr().cast(),
                    &raw mut addresses.len,
                )
            };
            let answer = answer as c_int;
            if answer == -ERANGE && room < 1 << 24 {
                room *= 4;
                continue;
            }
            if answer == -ENOENT {
                return Ok(Vec::new());
            }
            let count = self.connection.check("rados_list_lockers", answer)?;
            let found = clients.take(count).zip(cookies.take(count)).zip(addresses.take(count));
            return Ok(found.map(|((client, process), address)| Enrolled { client, process, address }).collect());
        }
    }

    /// Takes a client off the roll; that it is not there is no failure.
    pub fn strike_off(&self, enrolled: &Enrolled) -> Result<(), Failed> {
        let (client, process) = (c_text(&enrolled.client)?, c_text(&enrolled.process)?);
        // SAFETY: handle and strings are alive during the call.
        let answer = unsafe {
            (self.api().rados_break_lock)(self.handle, ROLL.as_ptr(), LOCK.as_ptr(), client.as_ptr(), process.as_ptr())
        };
        match self.connection.check("rados_break_lock", answer) {
            Err(failed) if !failed.is(ENOENT) => Err(failed),
            _ => Ok(()),
        }
    }
}

/// Room for strings, each ended by a zero.
struct Texts {
    bytes: Vec<u8>,
    len: usize,
}

impl Texts {
    fn new(room: usize) -> Texts {
        Texts { bytes: vec![0; room], len: room }
    }

    fn take(&self, count: usize) -> impl Iterator<Item = String> {
        self.bytes.split(|byte| *byte == 0).take(count).map(|text| String::from_utf8_lossy(text).into_owned())
    }
}
