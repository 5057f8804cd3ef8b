import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { SyntheticModule } from 'node:vm';
import JestRuntime from 'jest-runtime';

const require = createRequire(import.meta.url);
/** Of this worker process: what one test file has loaded, the next one has for nothing. */
const wrapped = new Map();

const isPackage = (key) => key.startsWith('file:') && key.includes('/node_modules/');

/** A package's module as Node itself loads it, in the dress that jest links test modules with. */
function nativeModule(key) {
  const known = wrapped.get(key);
  if (known) return known;
  const loaded = require(fileURLToPath(key));
  const isEsm = loaded !== null && typeof loaded === 'object' && loaded[Symbol.toStringTag] === 'Module';
  const record = loaded !== null && (typeof loaded === 'object' || typeof loaded === 'function') ? loaded : {};
  const names = Object.keys(record).filter((name) => name !== 'default' && name !== 'module.exports');
  const hasDefault = !isEsm || 'default' in loaded;
  const module = new SyntheticModule(
    hasDefault ? [...names, 'default'] : names,
    function () {
      for (const name of names) this.setExport(name, record[name]);
      if (hasDefault) this.setExport('default', isEsm ? loaded.default : loaded);
    },
    { identifier: fileURLToPath(key) },
  );
  // Without a link and without an await the evaluation is over when the call returns.
  void module.evaluate();
  wrapped.set(key, module);
  return module;
}

/** Jest's registry of modules, in which every package is there already. */
class Registry extends Map {
  get(key) {
    return super.get(key) ?? (isPackage(key) ? nativeModule(key) : undefined);
  }
  has(key) {
    return super.has(key) || isPackage(key);
  }
}

/**
 * Jest loads every module anew for every test file, through `vm`: for Nest, TypeORM and the AWS SDK 3 s a file, in a
 * hundred files. Here packages are loaded by Node, once for a worker; what is ours stays fresh for every file. It needs
 * the environment beside this file, since a package must share the globals of the code that uses it.
 */
export default class Runtime extends JestRuntime {
  constructor(...args) {
    super(...args);
    this.registries.esModuleRegistry = new Registry();
  }
}
export { Runtime as 'module.exports' };
