use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use umbel_client::{Cloud, HttpTransport, find_cloud_in};

/// The real binary, running as `umbel up` or `umbel serve`.
pub struct Process {
    child: Child,
    dir: PathBuf,
}

/// Under emulation, on two busy cores.
const START: Duration = Duration::from_secs(60);

impl Process {
    /// Starts over `dir`, which outlives it, and waits until it says that it is up.
    pub async fn up(dir: &Path, args: &[&str]) -> Process {
        Process::start(dir, (&["up", "--port", "0"], None), args, "umbel is up at ").await
    }

    /// As [`Process::up`], with this and no other folder to find programs in.
    pub async fn up_with_programs(dir: &Path, args: &[&str], programs: &Path) -> Process {
        Process::start(dir, (&["up", "--port", "0"], Some(programs)), args, "umbel is up at ").await
    }

    /// Some roles over `dir`, as `args` name them.
    pub async fn serve(dir: &Path, args: &[&str]) -> Process {
        Process::start(dir, (&["serve"], None), args, "umbel serves ").await
    }

    async fn start(
        dir: &Path,
        (command, programs): (&[&str], Option<&Path>),
        args: &[&str],
        sign: &'static str,
    ) -> Process {
        let path = programs.map(Path::as_os_str).map(OsStr::to_owned).or_else(|| std::env::var_os("PATH"));
        let mut child = Command::new(binary())
            .env("PATH", path.unwrap_or_default())
            .args(command)
            .arg("--dir")
            .arg(dir)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("umbel starts");
        let stdout = child.stdout.take().expect("its output");
        let mut lines = BufReader::new(stdout).lines();
        let up = async {
            while let Some(line) = lines.next_line().await.expect("its output is text") {
                if line.starts_with(sign) {
                    return;
                }
            }
            panic!("umbel ended before it was up; its error output says why");
        };
        tokio::time::timeout(START, up).await.expect("umbel is up within a minute");
        // A pipe that nobody reads would stop it one day.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Process { child, dir: dir.to_owned() }
    }

    pub fn clouds_yaml(&self) -> PathBuf {
        self.dir.join("clouds.yaml")
    }

    pub async fn admin(&self) -> Cloud {
        let config = find_cloud_in(&self.clouds_yaml(), "umbel").expect("the administrator's cloud");
        let transport = Arc::new(HttpTransport::new(false).expect("an HTTP client"));
        Cloud::connect(&config, transport).await.unwrap_or_else(|error| panic!("{}", error.for_log()))
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("umbel runs")
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("umbel is killed");
    }

    /// Ctrl-C, and the wait for its end.
    pub async fn stop(mut self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::INT).expect("the signal is sent");
        let status = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        assert!(status.expect("umbel stops when told to").expect("its status").success());
    }
}

/// The binary of the build that this test is of.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("UMBEL_TEST_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("a test is built below its profile's folder");
    let path = folder.join("umbel");
    assert!(path.is_file(), "{} is missing: run `cargo build -p umbel`", path.display());
    path
}
