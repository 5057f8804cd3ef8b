import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

const ROOT = join(import.meta.dirname, '../..');
const OUT = join(ROOT, 'dist/apps/dashboard');

/** Compressed beside each asset, so that the gateway need not do it for every visitor. */
const precompress: Plugin = {
  name: 'precompress',
  apply: 'build',
  closeBundle() {
    const dir = join(OUT, 'assets');
    for (const name of readdirSync(dir).filter((file) => /\.(js|css|svg)$/.test(file))) {
      const bytes = readFileSync(join(dir, name));
      if (bytes.length < 1024) continue;
      writeFileSync(join(dir, `${name}.gz`), gzipSync(bytes, { level: 9 }));
      writeFileSync(join(dir, `${name}.br`), brotliCompressSync(bytes));
    }
  },
};

export default defineConfig({
  root: import.meta.dirname,
  resolve: { alias: { '#client': join(ROOT, 'libs/client/src/index.ts') } },
  oxc: { jsx: { runtime: 'automatic' } },
  // The gateway puts the nonce of each answer in its place (apps/gateway/src/page/files.ts).
  html: { cspNonce: '__PAGE_NONCE__' },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: 'es2023',
    // `data:` URLs would need holes in the page's policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
    // Libraries mark their files for frameworks that render on servers; here the mark means nothing.
    rolldownOptions: {
      onwarn: (warning, warn) => {
        if (warning.code !== 'MODULE_LEVEL_DIRECTIVE') warn(warning);
      },
    },
  },
  plugins: [precompress],
  // `IMS=http://127.0.0.1:… npx vite apps/dashboard`: the page with hot reload on a running demo.
  server: { host: '127.0.0.1', proxy: { '/v1': process.env['IMS'] ?? 'http://127.0.0.1:8080' } },
});
