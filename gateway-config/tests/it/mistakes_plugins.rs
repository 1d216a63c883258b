//! Mistakes about plugins: keys, shares, grants, quarantine, shadows.

use crate::mistakes::mistake;

#[test]
fn mistakes_about_plugins_have_line_key_and_remedy() {
    let mut wrong = Vec::new();
    for (old, new, begins, contains) in [
        (
            "id = \"g\"\n",
            "id = \"g\"\nworkers = 0\n",
            "3 gateway.workers: 0 is out of bounds",
            "from 1 to 256",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nrequire_signature = true\n[tenant.acme]",
            "12 plugins.require_signature: no plugin could be signed",
            "sluice-plugin keygen",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = \"ed25519:AAAA\"\n[tenant.acme]",
            "12 plugins.keys: must be a list of tables",
            "",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = [{ name = \"k\" }]\n[tenant.acme]",
            "12 plugins.keys[0]: a key stands in `key` or",
            "ed25519:",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = [{ name = \"k\", key = \"AAAA\" }]\n[tenant.acme]",
            "12 plugins.keys[0].key: this is no public key",
            "sluice-plugin keygen",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = [{ name = \"k\", key = \"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\" }]\n[tenant.acme]",
            "12 plugins.keys[0].key: this is no public key",
            "44 signs",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = [{ name = \"k\", key = \"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" }, { name = \"l\", key = \"ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" }]\n[tenant.acme]",
            "12 plugins.keys[1]: the ring has this name or this key already, as \"k\"",
            "remove",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = [{ name = \"k\", key_file = \"site.key\" }]\n[tenant.acme]",
            "12 plugins.keys[0].key_file: this is a private key",
            "must stay where",
        ),
        (
            "[tenant.acme]",
            "[plugins]\nkeys = [{ name = \"k\", key_file = \"no.pub\" }]\n[tenant.acme]",
            "12 plugins.keys[0].key_file: cannot read",
            "keygen",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\nrequire_signature = true\n",
            "12 tenant.acme.require_signature: no plugin could be signed",
            "[plugins]",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\ncpu = { weight = 0 }\n",
            "12 tenant.acme.cpu.weight: 0 is out of bounds",
            "from 1 to 10000",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\ncpu = { burst = 50 }\n",
            "12 tenant.acme.cpu.burst: \"50\" has no unit",
            "\"50 ms\"",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\ncpu = { limit = \"half\" }\n",
            "12 tenant.acme.cpu.limit: \"half\" is no percentage",
            "\"50 %\"",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\ncpu = { limit = \"150 %\" }\n",
            "12 tenant.acme.cpu.limit: 150 % is out of bounds",
            "\"100 %\"",
        ),
        (
            "[tenant.acme]\n",
            "[tenant.acme]\ncpu = { share = 1 }\n",
            "12 tenant.acme.cpu.share: unknown key",
            "known here: burst, limit, weight",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\non_fault = \"prior\"",
            "14 tenant.acme.step[0].on_fault: \"prior\" is not known",
            "write one of \"bypass\", \"hold\", \"previous\"",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\ngrant = { imports = [\"logs\"] }",
            "14 tenant.acme.step[0].grant.imports[0]: \"logs\" is not known",
            "did you mean \"log\"?",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\ngrant = {}",
            "14 tenant.acme.step[0].grant: imports is missing",
            "[] for none",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nquarantine = { faults = 0 }",
            "14 tenant.acme.step[0].quarantine.faults: 0 is out of bounds",
            "from 1 to 10000",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nquarantine = { within = \"1 ms\" }",
            "14 tenant.acme.step[0].quarantine.within: 1 ms is out of bounds",
            "\"1 s\"",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nquarantine = { probe = \"2 d\" }",
            "14 tenant.acme.step[0].quarantine.probe: 2 d is out of bounds",
            "\"1 h\"",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = {}",
            "14 tenant.acme.step[0].shadow: use is missing",
            "mine.wasm",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = { use = \"next.wasm\" }",
            "14 tenant.acme.step[0].shadow.use: there is no plugin",
            "relative to this file",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = { use = \"builtin:linear\", promote = \"now\" }",
            "14 tenant.acme.step[0].shadow.promote: \"now\" is not known",
            "\"by hand\"",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = { use = \"builtin:linear\", promote = { faults = 1 } }",
            "14 tenant.acme.step[0].shadow.promote: after is missing",
            "after = \"1 h\"",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = { use = \"builtin:linear\", promote = { after = \"1 h\", differing = 2 } }",
            "14 tenant.acme.step[0].shadow.promote.differing: 2 is out of bounds",
            "\"100 %\"",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = { use = \"builtin:linear\", promote = { after = \"1 h\", time = 0 } }",
            "14 tenant.acme.step[0].shadow.promote.time: 0 is out of bounds",
            "0.01",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\nshadow = { use = \"builtin:linear\", tolerance = -1 }",
            "14 tenant.acme.step[0].shadow.tolerance: -1 is out of bounds",
            "from 0 to 1",
        ),
        (
            "\"builtin:linear\"",
            "\"builtin:linear\"\n[tenant.acme.decoder.d]\nuse = \"builtin:linear\"\non_fault = \"bypass\"",
            "16 tenant.acme.decoder.d.on_fault: messages cannot go past their decoder",
            "\"hold\" or \"previous\"",
        ),
    ] {
        wrong.extend(mistake(old, new, begins, contains).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
