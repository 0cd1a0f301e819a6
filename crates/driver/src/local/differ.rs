//! What differs between points in time of a disk, and what room they take. Told from the layers, without comparing a byte:
//! what two points do not share is what the layers hold that one has and the other has not.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use umbel_core::{Error, Result};

use super::chain::Chain;
use super::names::Layer;
use super::store::{Store, View, damaged, failed};
use crate::{Extent, Usage, extents};

/// The layers of a point in time, open, and how many of them the other point does not have.
struct Side {
    chain: Chain,
    own: usize,
}

pub(super) struct Difference {
    to: Side,
    /// `None`: a disk of zeros.
    from: Option<Side>,
}

pub(super) fn open(store: &Store, pool: &str, disk: &str, from: Option<&str>, to: Option<&str>) -> Result<Difference> {
    let view = store.view()?;
    let layer = view.layer(pool, disk, to)?;
    if to.is_none() {
        view.must_not_be_written(&layer, disk)?;
    }
    let stack = view.stack(&layer)?;
    let Some(from) = from else {
        let to = Side { chain: view.chain(&layer)?, own: stack.len() };
        return Ok(Difference { to, from: None });
    };
    let old_layer = view.layer(pool, disk, Some(from))?;
    let old_stack = view.stack(&old_layer)?;
    // After a rollback neither is below the other; they part above the first layer that both have.
    let common = stack.iter().find(|layer| old_stack.contains(layer));
    let own = |stack: &[Layer]| stack.iter().take_while(|layer| Some(*layer) != common).count();
    let (to_own, from_own) = (own(&stack), own(&old_stack));
    Ok(Difference {
        to: Side { chain: view.chain(&layer)?, own: to_own },
        from: Some(Side { chain: view.chain(&old_layer)?, own: from_own }),
    })
}

impl Difference {
    /// Reads tables only, and no data.
    pub fn extents(mut self) -> Result<Vec<Extent>> {
        let size = self.to.chain.size();
        let before = self.from.as_ref().map_or(size, |from| from.chain.size()).min(size);
        let failed = |error| Error::internal(format!("cannot read the layers of a disk: {error}"));
        let (mut found, mut at) = (Vec::new(), 0);
        while at < size {
            // What is gained differs, whatever the layers say, and a stretch is on one side of the border.
            let end = if at < before { before } else { size };
            let (mut touched, mut run) = self.to.chain.touched(self.to.own, at, end).map_err(failed)?;
            if let Some(from) = self.from.as_mut().filter(|_| at < before) {
                let (old, old_run) = from.chain.touched(from.own, at, end).map_err(failed)?;
                touched |= old;
                run = run.min(old_run);
            }
            let here = self.to.chain.extent(at, at + run).map_err(failed)?;
            let (length, zero) = (here.length, here.source.is_none());
            // Without `from`, what reads as zeros is as it was.
            let differs = if self.from.is_some() { touched || at >= before } else { !zero };
            if differs {
                extents::push(&mut found, Extent { offset: at, length, zero });
            }
            at += length;
        }
        Ok(found)
    }
}

pub(super) fn usage(store: &Store, pool: &str, disk: &str) -> Result<Usage> {
    let view = store.view()?;
    let head = view.head(pool, disk)?;
    let (mut counted, mut usage) = (HashSet::new(), Usage::default());
    for snapshot in view.snapshots(pool, disk)? {
        let layer = view.layer(pool, disk, Some(&snapshot))?;
        let bytes = count(&view, &layer, &mut counted)?;
        usage.snapshots.push((snapshot, bytes));
    }
    usage.head = count(&view, &head, &mut counted)?;
    Ok(usage)
}

/// Bytes that the own layers below the link take, of those that were not counted yet.
fn count(view: &View<'_>, top: &Layer, counted: &mut HashSet<Layer>) -> Result<u64> {
    let mut bytes = 0;
    for step in view.own(top)? {
        let path = view.layer_path(&step.layer);
        if counted.insert(step.layer) {
            bytes += std::fs::metadata(&path).map_err(|error| failed("read", &path, error))?.blocks() * 512;
        }
    }
    Ok(bytes)
}

impl View<'_> {
    /// The layer and all below it, parents included.
    fn stack(&self, top: &Layer) -> Result<Vec<Layer>> {
        let mut stack = vec![top.clone()];
        while let Some(layer) = stack.last()
            && let Some(below) = self.below(self.header(layer)?.as_ref(), layer)?
        {
            if stack.contains(&below) {
                return Err(damaged(&self.layer_path(top), "layers without end"));
            }
            stack.push(below);
        }
        Ok(stack)
    }
}
