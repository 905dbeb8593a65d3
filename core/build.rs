//! Copies the named queries and the recipes of indexes to OUT_DIR, from where the wheel takes them (`[tool.maturin]
//! include`): they live at the top of the repository, where people look for them, and must be found in an installed
//! package too.

use std::path::Path;
use std::{env, fs};

fn main() {
    copy("../queries", "sql", "_queries");
    copy("../indexes", "toml", "_recipes");
}

fn copy(from: &str, extension: &str, to: &str) {
    println!("cargo::rerun-if-changed={from}");
    let out = Path::new(&env::var_os("OUT_DIR").expect("set by cargo")).join(to);
    fs::create_dir_all(&out).expect("OUT_DIR can be written");
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|found| found == extension) {
            fs::copy(entry.path(), out.join(entry.file_name())).expect("a file can be copied");
        }
    }
}
