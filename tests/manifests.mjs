// Checks manifests of Kubernetes against its types, and refuses fields that the types do not have.
//
//   node tests/manifests.mjs FOLDER FILE…      FOLDER is that of tools/kubernetes_models/fetch.sh
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, ...files] = process.argv.slice(2);
const modules = path.resolve(folder, "node_modules");
const yaml = createRequire(path.join(modules, "x.js"))("js-yaml");
const schemas = { "apps/v1 Deployment": "IoK8sApiAppsV1Deployment", "v1 Service": "IoK8sApiCoreV1Service" };

// The validators take unknown fields. They look at each field that a type has, and at the fields of a map by listing
// them; so what was not looked at is unknown.
function watched(value, where, looked) {
    if (value === null || typeof value !== "object") return value;
    const inside = new Map();
    for (const key of Object.keys(value)) {
        inside.set(key, watched(value[key], `${where}/${key}`, looked));
        looked.set(`${where}/${key}`, looked.get(`${where}/${key}`) ?? false);
    }
    const look = (key) => looked.has(`${where}/${String(key)}`) && looked.set(`${where}/${String(key)}`, true);
    return new Proxy(value, {
        get: (target, key) => (look(key), inside.has(key) ? inside.get(key) : target[key]),
        ownKeys: (target) => (Object.keys(target).forEach(look), Reflect.ownKeys(target)),
    });
}

let failed = 0;
for (const file of files) {
    for (const object of yaml.loadAll(fs.readFileSync(file, "utf8"))) {
        const kind = `${object.apiVersion} ${object.kind}`;
        const complaints = [];
        if (!schemas[kind]) {
            complaints.push(`${kind} is not expected here`);
        } else {
            const where = path.join(modules, "kubernetes-models/_schemas", `${schemas[kind]}.js`);
            const { validate } = await import(pathToFileURL(where));
            const looked = new Map();
            if (!validate(watched(object, "", looked)))
                for (const error of validate.errors) complaints.push(`${error.instancePath}: ${error.keyword} ${JSON.stringify(error.params)}`);
            for (const [field, seen] of looked) if (!seen) complaints.push(`${field} is no field of ${kind}`);
        }
        for (const complaint of complaints) console.log(`${path.basename(file)}: ${complaint}`);
        if (complaints.length === 0) console.log(`${path.basename(file)}: ${kind} is valid`);
        else failed = 1;
    }
}
process.exitCode = failed;
