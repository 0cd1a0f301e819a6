use std::sync::Arc;

use parking_lot::RwLock;
use umbel_core::Id;
use umbel_db::Db;

use crate::Cell;

pub type CellId = Id<Cell>;

/// A cell that is open.
pub struct CellHandle {
    pub id: CellId,
    pub name: String,
    pub db: Db<Cell>,
}

/// The cells of this cloud: `cell0`, where servers end that found no host, and those with hosts.
pub struct Cells {
    zero: Arc<CellHandle>,
    others: RwLock<Vec<Arc<CellHandle>>>,
}

impl Cells {
    /// The id of `cell0` everywhere, as upstream has it.
    pub const ZERO: CellId = CellId::from_uuid(uuid::Uuid::nil());

    pub fn new(zero: Db<Cell>, others: Vec<CellHandle>) -> Self {
        let zero = Arc::new(CellHandle { id: Self::ZERO, name: "cell0".to_owned(), db: zero });
        Cells { zero, others: RwLock::new(others.into_iter().map(Arc::new).collect()) }
    }

    pub fn zero(&self) -> &Arc<CellHandle> {
        &self.zero
    }

    pub fn get(&self, id: CellId) -> Option<Arc<CellHandle>> {
        if id == Self::ZERO {
            return Some(self.zero.clone());
        }
        self.others.read().iter().find(|cell| cell.id == id).cloned()
    }

    /// Those with hosts.
    pub fn with_hosts(&self) -> Vec<Arc<CellHandle>> {
        self.others.read().clone()
    }

    /// All, `cell0` first.
    pub fn all(&self) -> Vec<Arc<CellHandle>> {
        let mut all = vec![self.zero.clone()];
        all.extend(self.others.read().iter().cloned());
        all
    }

    /// Opens a cell to requests. Nothing restarts, and no other cell notices.
    pub fn add(&self, cell: CellHandle) {
        self.others.write().push(Arc::new(cell));
    }
}
