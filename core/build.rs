//! Copies the named queries to OUT_DIR, from where the wheel takes them (`[tool.maturin] include`): they live at the top
//! of the repository, where people look for them, and must be found in an installed package too.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=../queries");
    let out = Path::new(&env::var_os("OUT_DIR").expect("set by cargo")).join("_queries");
    fs::create_dir_all(&out).expect("OUT_DIR can be written");
    for entry in fs::read_dir("../queries").into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "sql") {
            fs::copy(entry.path(), out.join(entry.file_name())).expect("a query can be copied");
        }
    }
}
