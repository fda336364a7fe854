//! Files that are no plugins: cut off, damaged, endless, of any length, with names that lead
//! elsewhere.

use std::{fs, path::Path};

use leapfrog::engine::{Engine, Plugin, PluginError};

use super::{
    Case, REFUSED, check,
    craft::{Core, padded},
    misbehaving, misses, ran_here,
};
use crate::support::simulated::{Setup, Simulated};

/// A shipped kind of plugin, with everything that one has.
fn whole() -> Vec<u8> {
    fs::read(misbehaving()).unwrap()
}

fn read(folder: &Path, bytes: &[u8]) -> Result<Plugin, PluginError> {
    let path = folder.join("plugin.wasm");
    fs::write(&path, bytes).unwrap();
    Plugin::read("plugin", &path)
}

/// The next of a row of numbers that look like chance.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

#[test]
fn a_plugin_that_is_cut_off_anywhere_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole();
    let signature = read(folder.path(), &whole).unwrap().signature;
    for part in 0..200 {
        let length = whole.len() * part / 200;
        // Before its exports it is a component without functions; behind the last one there are only
        // names for debuggers.
        if let Ok(plugin) = read(folder.path(), &whole[..length]) {
            let nothing = plugin.signature.functions.is_empty();
            assert!(nothing || plugin.signature == signature, "{length} of {} bytes", whole.len());
        }
    }
}

/// Whatever its bytes are: it is refused, or it is another plugin. It is not run here.
#[test]
fn a_plugin_that_is_damaged_is_refused_or_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = whole();
    let engine = Engine::new(None).unwrap();
    let (mut state, mut refused, mut compiled, mut not_compiled) = (1, 0, 0, 0);
    for round in 0..600 {
        let mut bytes = whole.clone();
        for _ in 0..=next(&mut state) % 4 {
            let at = next(&mut state) % bytes.len();
            match round % 3 {
                0 => bytes[at] ^= 1 << (next(&mut state) % 8),
                1 => bytes[at] = u8::try_from(next(&mut state) % 256).unwrap(),
                // The first kilobytes say what it is.
                _ => bytes[at % 4096] = u8::try_from(next(&mut state) % 256).unwrap(),
            }
        }
        match read(folder.path(), &bytes) {
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty() && error.hint().is_some());
            }
            // To compile takes longer.
            Ok(plugin) if compiled + not_compiled < 20 => match engine.compile_ahead(&plugin) {
                Ok(()) => compiled += 1,
                Err(_) => not_compiled += 1,
            },
            Ok(_) => {}
        }
    }
    println!("{refused} refused, {compiled} compiled, {not_compiled} not");
    assert!(refused > 100 && compiled > 0, "{refused} refused, {compiled} compiled");
}

#[test]
fn a_file_of_any_length_takes_no_more_memory_than_a_plugin_may_have() {
    // Of no length, by its own account, and endless.
    let endless = Simulated::with(&Setup::default());
    let workflow = "name: hostile\ninputs: {}\nsteps:\n  - uses: /proc/self/pagemap\n";
    fs::write(endless.path("workflow.yaml"), workflow).unwrap();
    let (ran, most) = ran_here(&endless);
    assert_eq!(misses(&ran, most, "`/proc/self/pagemap` cannot be read", REFUSED), None);
    // As large as it may be, and larger.
    let case = |name, bytes: usize, says, code| Case { name, plugin: padded(bytes), step: "", says, code };
    check(&[
        case("64 MiB of nothing", (64 << 20) - 300, "", 0),
        case("more than that", 64 << 20, "67108864 are allowed", REFUSED),
    ]);
}

/// A function that adds numbers, this often; each takes 9 bytes.
fn adds(times: i32) -> Vec<u8> {
    Core::new("export go: func();")
        .function("go", (0, 0), |code| {
            for at in 0..times {
                code.local_get(0).i32_const(8_192 + at % 8_192).i32_add().local_set(0);
            }
        })
        .component()
}

#[test]
fn a_function_is_only_compiled_up_to_a_length() {
    let case = |name, times, says, code| Case { name, plugin: adds(times), step: "", says, code };
    check(&[
        case("a function of almost 1 MiB", 116_000, "", 0),
        case("a function of 2 MiB", 262_144, "of code, 1048576 are allowed", REFUSED),
    ]);
}

#[test]
fn a_name_that_leads_elsewhere_leads_nowhere() {
    let sim = Simulated::with(&Setup::default());
    fs::write(sim.path("a\u{1b}[31m\nb.wasm"), b"nothing").unwrap();
    let mut wrong = Vec::new();
    for (uses, says) in [
        ("../../../../../../etc/passwd", "is not WebAssembly"),
        ("/etc/passwd", "is not WebAssembly"),
        ("/dev/zero", "it is not a file"),
        ("./plugin.wasm/../../x.wasm", "cannot be read"),
        ("pair-migration%2f..%2fx", "cannot be the name of a plugin"),
        ("pair-migration\\0", "cannot be the name of a plugin"),
        ("..", "plugin"),
        ("./a\\e[31m\\nb.wasm", "is not WebAssembly"),
        ("\\e]0;owned\\a", "cannot be the name of a plugin"),
    ] {
        let workflow = format!("name: hostile\ninputs: {{}}\nsteps:\n  - id: go\n    uses: \"{uses}\"\n");
        fs::write(sim.path("workflow.yaml"), workflow).unwrap();
        let (ran, most) = ran_here(&sim);
        wrong.extend(misses(&ran, most, says, REFUSED).map(|why| format!("{uses}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for verb in ["show", "resume", "cancel", "approve", "back-out"] {
        for name in ["../../../etc/passwd", "/etc/passwd", "..", "a\u{1b}[31m", ""] {
            let ran = sim.verb(&[verb, name]);
            let said = format!("{}{}", ran.out, ran.err);
            assert!(ran.code == Some(2) && !said.contains("panicked at"), "{verb} {name:?}: {ran}");
            assert!(!said.contains('\u{1b}') && !said.contains("root:"), "{verb} {name:?}: {ran}");
        }
    }
    // What lies in the folder of plugins may have any name.
    let folder = sim.path("").display().to_string();
    let ran = sim.verb(&["--plugins", &folder, "plugin", "list"]).exits(0).says("unusable");
    assert!(!ran.out.contains('\u{1b}') && !ran.out.contains("\nb"), "{ran}");
}
