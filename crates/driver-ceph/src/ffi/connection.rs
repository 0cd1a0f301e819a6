use std::collections::HashSet;
use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Api, c_text, from_c, rados_ioctx_t, rados_t};
use crate::errno::{EINVAL, ESHUTDOWN, ETIMEDOUT, Failed};
use crate::fence::{self, Worker};

/// Threads on which librados and librbd go on with what they have begun; no data pass through them.
pub const THREADS: &str = "librados_thread_count";

/// Seconds for which a client is refused: longer than one stands still that goes on some day.
const SHUT_OUT_FOR: &str = "86400.0";

/// The room that a fsid takes: 36 characters and the end.
const FSID_LEN: usize = 37;

/// A handle of librados: its configuration, and after [`Client::connect`] its sessions and threads.
pub struct Client {
    api: &'static Api,
    cluster: rados_t,
    conf: PathBuf,
    user: String,
    options: Vec<(&'static str, String)>,
}

// SAFETY: a rados_t may be used by any thread and by several at once, as librados.h says of it.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Reads the configuration; nothing is sent. `user` has no `client.` in front.
    pub fn configure(api: &'static Api, conf: &Path, user: &str) -> Result<Client, Failed> {
        let name = c_text(user)?;
        let file = CString::new(conf.as_os_str().as_encoded_bytes())
            .map_err(|_| Failed { errno: EINVAL, call: "rados_conf_read_file" })?;
        let mut cluster = ptr::null_mut();
        // SAFETY: the strings live until the call returns, and librados copies them.
        Failed::check("rados_create", unsafe { (api.rados_create)(&raw mut cluster, name.as_ptr()) })?;
        let client = Client { api, cluster, conf: conf.to_owned(), user: user.to_owned(), options: Vec::new() };
        // SAFETY: the handle is alive, the string outlives the call.
        let answer = unsafe { (api.rados_conf_read_file)(client.cluster, file.as_ptr()) };
        Failed::check("rados_conf_read_file", answer)?;
        Ok(client)
    }

    pub fn set(&mut self, option: &'static str, value: String) -> Result<(), Failed> {
        let (name, text) = (c_text(option)?, c_text(&value)?);
        // SAFETY: the handle is alive, the strings outlive the call.
        let answer = unsafe { (self.api.rados_conf_set)(self.cluster, name.as_ptr(), text.as_ptr()) };
        Failed::check("rados_conf_set", answer)?;
        self.options.push((option, value));
        Ok(())
    }

    /// Another one like it, not connected yet.
    fn another(&self) -> Result<Client, Failed> {
        let mut other = Client::configure(self.api, &self.conf, &self.user)?;
        self.options.iter().try_for_each(|(option, value)| other.set(option, value.clone()))?;
        Ok(other)
    }

    /// The fsid that the configuration file names, if it does.
    pub fn configured_fsid(&self) -> Option<String> {
        let mut text = [0 as c_char; FSID_LEN];
        // SAFETY: the buffer is as long as is said.
        let answer =
            unsafe { (self.api.rados_conf_get)(self.cluster, c"fsid".as_ptr(), text.as_mut_ptr(), text.len()) };
        // SAFETY: the library has ended what it wrote with a zero.
        let fsid = (answer >= 0).then(|| unsafe { from_c(text.as_ptr()) })?;
        // Without a line in the file the option is the nil UUID.
        (!fsid.is_empty() && fsid.chars().any(|digit| !matches!(digit, '0' | '-'))).then_some(fsid)
    }

    pub fn connect(self) -> Result<Connection, Failed> {
        // SAFETY: the handle is alive and was not connected before, since connecting consumes it.
        Failed::check("rados_connect", unsafe { (self.api.rados_connect)(self.cluster) })?;
        let mut text = [0 as c_char; FSID_LEN];
        // SAFETY: the buffer is as long as is said.
        let answer = unsafe { (self.api.rados_cluster_fsid)(self.cluster, text.as_mut_ptr(), text.len()) };
        Failed::check("rados_cluster_fsid", answer)?;
        // SAFETY: the library has ended what it wrote with a zero.
        let fsid = unsafe { from_c(text.as_ptr()) };
        Ok(Connection {
            client: self,
            fsid,
            lost: AtomicBool::new(false),
            condemned: watch::Sender::new(false),
            with_trash: Mutex::default(),
            worker: Worker::default(),
            enrolled: Mutex::default(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: made by rados_create, shut down once; whoever uses it holds an Arc of its Connection.
        unsafe { (self.api.rados_shutdown)(self.cluster) }
    }
}

/// A connected client. Shared by everything in the process that uses the cluster: measured, one connection clones as fast
/// as one per thread, and each costs threads and memory.
pub struct Connection {
    client: Client,
    fsid: String,
    lost: AtomicBool,
    condemned: watch::Sender<bool>,
    /// Ids of the pools that are known to have a trash.
    pub(super) with_trash: Mutex<HashSet<i64>>,
    worker: Worker,
    /// Ids of the pools that have this client on their roll.
    enrolled: Mutex<HashSet<i64>>,
}

impl Connection {
    #[must_use]
    pub fn used_by(mut self, worker: Worker) -> Self {
        self.worker = worker;
        self
    }

    pub fn fsid(&self) -> &str {
        &self.fsid
    }

    pub(super) fn api(&self) -> &'static Api {
        self.client.api
    }

    /// Whether a new client must be made: the cluster has shut this one out, or a write of it was not answered.
    ///
    /// librados goes on by itself once the cluster answers again. But a write that was given up may leave an exclusive lock in
    /// this client's name, and a client cannot break its own: the image would be in use for as long as the client lives.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self, call: &'static str, answer: c_int) -> Result<usize, Failed> {
        Failed::check(call, answer).inspect_err(|failed| {
            if failed.is(ESHUTDOWN) {
                self.lose();
            }
        })
    }

    /// For calls that take locks.
    pub(super) fn check_write(&self, call: &'static str, answer: c_int) -> Result<usize, Failed> {
        self.check(call, answer).inspect_err(|failed| {
            if failed.is(ETIMEDOUT) {
                self.lose();
            }
        })
    }

    /// Makes whoever comes next take a new client.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// [`Connection::lose`], and the next client has the cluster refuse this one before it is used.
    pub fn condemn(&self) {
        self.lose();
        self.condemned.send_replace(true);
    }

    pub fn is_condemned(&self) -> bool {
        *self.condemned.borrow()
    }

    /// Returns when it is condemned.
    pub async fn condemnation(&self) {
        // It fails when the sender is gone, which is part of this.
        let _ = self.condemned.subscribe().wait_for(|condemned| *condemned).await;
    }

    /// For what takes names away: a call that was given up may come to it long after others have used the name again.
    pub(super) fn check_kept(&self, call: &'static str) -> Result<(), Failed> {
        match self.is_lost() {
            true => Err(Failed { errno: ESHUTDOWN, call }),
            false => Ok(()),
        }
    }

    /// Has the cluster refuse these clients, and returns when no later request can be overtaken by one of theirs.
    pub fn shut_out(&self, addresses: &[String]) -> Result<(), Failed> {
        for address in addresses {
            let command = format!(
                r#"{{"prefix": "osd blocklist", "blocklistop": "add", "addr": "{address}", "expire": {SHUT_OUT_FOR}}}"#
            );
            self.mon_command(&command)?;
        }
        if addresses.is_empty() { Ok(()) } else { self.catch_up() }
    }

    /// This client as the cluster names it: `127.0.0.1:0/3513701192`.
    pub fn address(&self) -> Result<String, Failed> {
        let mut text = ptr::null_mut::<c_char>();
        // SAFETY: the handle is alive; the library puts a string there, which is freed below.
        let answer = unsafe { (self.api().rados_getaddrs)(self.client.cluster, &raw mut text) };
        self.check("rados_getaddrs", answer)?;
        // SAFETY: the library has ended what it wrote with a zero.
        let address = unsafe { from_c(text) };
        // SAFETY: allocated by the call above, freed once.
        unsafe { (self.api().rados_buffer_free)(text) };
        Ok(address)
    }

    /// Waits until this client knows what the monitors have decided so far.
    fn catch_up(&self) -> Result<(), Failed> {
        // SAFETY: the handle is alive.
        let answer = unsafe { (self.api().rados_wait_for_latest_osdmap)(self.client.cluster) };
        self.check("rados_wait_for_latest_osdmap", answer).map(drop)
    }

    /// A command in Ceph's JSON form for the monitors, and its output.
    pub fn mon_command(&self, command: &str) -> Result<Vec<u8>, Failed> {
        let command = c_text(command)?;
        let mut commands = [command.as_ptr()];
        let (mut out, mut out_len) = (ptr::null_mut::<c_char>(), 0usize);
        let api = self.api();
        // SAFETY: one command of one string; no input; the status string is not asked for, which the call allows.
        let answer = unsafe {
            (api.rados_mon_command)(
                self.client.cluster,
                commands.as_mut_ptr(),
                1,
                ptr::null(),
                0,
                &raw mut out,
                &raw mut out_len,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let bytes = if out.is_null() {
            Vec::new()
        } else {
            // SAFETY: the library has allocated `out_len` bytes there, which are copied and given back.
            unsafe {
                let bytes = std::slice::from_raw_parts(out.cast::<u8>(), out_len).to_vec();
                (api.rados_buffer_free)(out);
                bytes
            }
        };
        self.check("rados_mon_command", answer)?;
        Ok(bytes)
    }

    /// Ceph's number of the oldest release whose clients may connect (13 is Mimic), as the administrator has set it.
    pub fn required_client_release(&self) -> Result<i8, Failed> {
        let (mut in_use, mut required) = (0i8, 0i8);
        // SAFETY: both places live until the call returns.
        let answer = unsafe {
            (self.api().rados_get_min_compatible_client)(self.client.cluster, &raw mut in_use, &raw mut required)
        };
        self.check("rados_get_min_compatible_client", answer)?;
        Ok(required)
    }

    /// A connection of its own, for the few calls that wait on librados' threads for those very threads; with
    /// [`THREADS`] at one they would wait without end.
    pub(super) fn with_threads(&self) -> Result<Arc<Connection>, Failed> {
        self.check_kept("rados_connect")?;
        let mut client = self.client.another()?;
        client.set(THREADS, "3".to_owned())?;
        client.connect().map(Arc::new)
    }

    /// `ENOENT` if the cluster has no such pool. The client is on its roll from then on.
    pub fn pool(self: &Arc<Self>, pool: &str) -> Result<IoCtx, Failed> {
        let text = c_text(pool)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the cluster's handle is alive, the string outlives the call.
        let answer = unsafe { (self.api().rados_ioctx_create)(self.client.cluster, text.as_ptr(), &raw mut handle) };
        self.check("rados_ioctx_create", answer)?;
        // A write to a full pool waits for room, for as long as that takes, unless it asks to be refused.
        // SAFETY: the handle has just been made.
        unsafe { (self.api().rados_set_pool_full_try)(handle) };
        // SAFETY: as above.
        let id = unsafe { (self.api().rados_ioctx_get_id)(handle) };
        let pool = IoCtx { connection: self.clone(), handle, id, name: pool.into() };
        fence::enroll(&pool, &self.worker)?;
        Ok(pool)
    }
}

/// A pool, as the calls want it.
pub struct IoCtx {
    pub(super) connection: Arc<Connection>,
    pub(super) handle: rados_ioctx_t,
    pub(super) id: i64,
    pub(super) name: Box<str>,
}

// SAFETY: an ioctx may move between threads, and its calls may overlap as long as its settings (namespace, locator,
// snapshot context) are left alone: none is touched after `pool`.
unsafe impl Send for IoCtx {}
// SAFETY: as above.
unsafe impl Sync for IoCtx {}

impl IoCtx {
    /// As Ceph calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An image's name among those of all clusters.
    pub fn key(&self, image: &str) -> String {
        format!("{}/{}/{image}", self.connection.fsid, self.id)
    }

    /// Another pool, by the same connection.
    pub fn beside(&self, pool: &str) -> Result<IoCtx, Failed> {
        self.connection.pool(pool)
    }

    /// Whether `enroll` has been done for this client, which is remembered.
    pub fn enrolled_once(&self, enroll: impl FnOnce(&IoCtx) -> Result<bool, Failed>) -> Result<(), Failed> {
        if !self.connection.enrolled.lock().contains(&self.id) && enroll(self)? {
            self.connection.enrolled.lock().insert(self.id);
        }
        Ok(())
    }

    /// Names of the applications that the pool is enabled for, `rbd` among them if all is well.
    pub fn applications(&self) -> Result<Vec<String>, Failed> {
        let mut text = vec![0u8; 1024];
        let mut len = text.len();
        // SAFETY: the buffer is as long as is said.
        let answer = unsafe {
            (self.connection.api().rados_application_list)(self.handle, text.as_mut_ptr().cast(), &raw mut len)
        };
        self.connection.check("rados_application_list", answer)?;
        text.truncate(len);
        let names = text.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }
}

impl Drop for IoCtx {
    fn drop(&mut self) {
        // SAFETY: made by rados_ioctx_create, destroyed once, before its cluster. Images have a copy of their own.
        unsafe { (self.connection.api().rados_ioctx_destroy)(self.handle) }
    }
}
