//! A snapshot of several disks at one point in time, while guests write to them.
//!
//! Only who has an image's exclusive lock writes to it, and a guest's librbd hands the lock over when it is asked, with no
//! write in flight. So the lock of every disk is taken, and kept until its snapshot is made; no snapshot is made before
//! all locks are held. What a guest wants to write meanwhile waits, and goes on when it gets the lock back.
//!
//! To keep a lock while others ask for it, librbd has `rbd_lock_acquire`. It is refused: with Ceph 16 a guest that wants
//! to write is then told `EROFS`, and its write fails. Refused as well are Ceph's own groups, which do it right: what they
//! make are snapshots of the group, which cannot be cloned. What is used instead is that librbd, before it makes a
//! snapshot, asks who watches the image to be quiet, and gives nobody the lock before the snapshot is done: we begin the
//! snapshots, watch the images ourselves, and give our answers when all of them have asked ([`crate::ffi::Hold`]).
//!
//! A disk without an exclusive lock (multi-attached ones of other software) is written by whoever has it open. Its
//! snapshot is made last, while all the others stand still; of several such disks each is at a moment of its own.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use umbel_core::{Error, Kind, Result};

use crate::errno::{EAGAIN, EBUSY, EEXIST, ENOENT, Failed};
use crate::ffi::{Access, Event, Hold, Image, IoCtx, Which};
use crate::point;
use crate::pool::CephName;

/// How long guests may have to wait for the slowest disk, before all of them are let go and nothing is made.
const STILL: Duration = Duration::from_secs(10);

/// A guest may get its lock back between our taking it and our beginning, and then that disk does not stand still.
const ATTEMPTS: usize = 20;

struct Part<'a> {
    image: Image,
    disk: &'a str,
    snapshot: &'a str,
    /// It is there already.
    there: bool,
    /// One client at a time writes to it. Not said of a disk of no bytes, whose lock nobody needs.
    locked: bool,
}

pub fn snapshot(ceph: &CephName, pool: &IoCtx, disks: &[(String, String)]) -> Result<()> {
    let mut parts = Vec::with_capacity(disks.len());
    for (disk, snapshot) in disks {
        parts.push(open(pool, disk, snapshot).map_err(|failed| failed.about(&ceph.disk(disk)))?);
    }
    if parts.iter().all(|part| part.there) && are_whole(ceph, pool, &parts)? {
        return Ok(());
    }
    // The same order for all who do this: nobody waits for a lock that waits for his.
    parts.sort_by_key(|part| part.disk);
    take_back(ceph, parts.iter().filter(|part| part.there))?;
    let (locked, free): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.locked);
    // Locks of the dead take up to 30 s to break. Nobody is held up by that here.
    for part in &locked {
        part.image.take_lock().map_err(|failed| failed.about(&ceph.disk(part.disk)))?;
    }
    for _ in 0..ATTEMPTS {
        match attempt(&locked, &free) {
            Ok(()) => return check(ceph, pool, &locked, &free),
            Err(lost) => {
                take_back(ceph, locked.iter().chain(&free))?;
                if let Some((disk, failed)) = lost {
                    return Err(failed.about(&ceph.disk(disk)));
                }
            }
        }
    }
    Err(Error::new(Kind::Busy, "The disks are so busy that they cannot be snapshotted at one point in time.")
        .because(format!("no lock of all {} disks in {ATTEMPTS} attempts", locked.len())))
}

fn are_whole(ceph: &CephName, pool: &IoCtx, parts: &[Part<'_>]) -> Result<bool> {
    for part in parts {
        let whole = point::is_whole(pool, part.disk, &part.image, part.snapshot);
        if !whole.map_err(|failed| failed.about(&ceph.snapshot(part.disk, part.snapshot)))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All of them, or none.
fn check(ceph: &CephName, pool: &IoCtx, locked: &[Part<'_>], free: &[Part<'_>]) -> Result<()> {
    for part in locked.iter().chain(free) {
        if let Err(failed) = point::check(pool, part.disk, &part.image, part.snapshot) {
            take_back(ceph, locked.iter().chain(free))?;
            return Err(failed.about(&ceph.snapshot(part.disk, part.snapshot)));
        }
    }
    Ok(())
}

fn open<'a>(pool: &IoCtx, disk: &'a str, snapshot: &'a str) -> Result<Part<'a>, Failed> {
    let image = pool.open(Which::Name(disk), None, Access::Write)?;
    let there = image.snapshots()?.iter().any(|known| known.visible && known.name == snapshot);
    let locked = image.has_exclusive_lock()? && image.size()? > 0;
    Ok(Part { image, disk, snapshot, there, locked })
}

/// Removes what was made, if anything.
fn take_back<'a>(ceph: &CephName, parts: impl Iterator<Item = &'a Part<'a>>) -> Result<()> {
    for part in parts {
        match part.image.remove_snapshot(part.snapshot) {
            Err(failed) if !failed.is(ENOENT) => {
                return Err(failed.about(&ceph.snapshot(part.disk, part.snapshot)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What went wrong, with which disk; `None`: a lock was lost, so that it may be tried again.
type Lost<'a> = Option<(&'a str, Failed)>;

fn attempt<'a>(locked: &'a [Part<'a>], free: &'a [Part<'a>]) -> Result<(), Lost<'a>> {
    let (send, events) = channel();
    let mut holds = Vec::with_capacity(locked.len());
    for (number, part) in locked.iter().enumerate() {
        holds.push(part.image.hold(number, send.clone()).map_err(|failed| Some((part.disk, failed)))?);
    }
    thread::scope(|scope| {
        for (number, part) in locked.iter().enumerate() {
            let send = send.clone();
            scope.spawn(move || {
                let made = part.image.take_lock().and_then(|()| part.image.create_held_snapshot(part.snapshot));
                let _ = send.send(Event::Done(number, made));
            });
        }
        let mut watch = Watch { events, still: vec![false; locked.len()], done: vec![None; locked.len()] };
        let mut outcome = watch.all_still(locked);
        if outcome.is_ok() {
            outcome = free.iter().try_for_each(|part| match part.image.create_snapshot(part.snapshot) {
                Err(failed) if !failed.is(EEXIST) => Err(Some((part.disk, failed))),
                _ => Ok(()),
            });
        }
        watch.let_go(&holds, outcome.is_err().then_some(EAGAIN));
        outcome?;
        let failed = locked.iter().zip(watch.done).find_map(|(part, made)| Some((part.disk, made?.err()?)));
        failed.map_or(Ok(()), |failed| Err(Some(failed)))
    })
}

/// Snapshots on their way.
struct Watch {
    events: Receiver<Event>,
    still: Vec<bool>,
    done: Vec<Option<Result<(), Failed>>>,
}

impl Watch {
    /// Returns when all snapshots have begun under our locks.
    fn all_still<'a>(&mut self, locked: &'a [Part<'a>]) -> Result<(), Lost<'a>> {
        let deadline = Instant::now() + STILL;
        while let Some(missing) = self.still.iter().position(|still| !still) {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Stilled(number)) => self.still[number] = true,
                Ok(Event::Done(number, made)) => {
                    self.done[number] = Some(made);
                    // Made without asking us: not under our lock.
                    return Err(made.err().map(|failed| (locked[number].disk, failed)));
                }
                Err(_) => {
                    return Err(Some((locked[missing].disk, Failed { errno: EBUSY, call: "waiting for a lock" })));
                }
            }
        }
        for part in locked {
            if !part.image.owns_lock().map_err(|failed| Some((part.disk, failed)))? {
                return Err(None);
            }
        }
        Ok(())
    }

    /// Returns when all snapshots are made, or have failed.
    fn let_go(&mut self, holds: &[Hold<'_>], refused: Option<i32>) {
        holds.iter().zip(&self.still).filter(|(_, still)| **still).for_each(|(hold, _)| hold.let_go(refused));
        while self.done.contains(&None) {
            match self.events.recv() {
                Ok(Event::Stilled(number)) => holds[number].let_go(refused),
                Ok(Event::Done(number, made)) => self.done[number] = Some(made),
                // Not while the holds live.
                Err(_) => return,
            }
        }
    }
}
