import { startKubeApi } from './index.js';

/**
 * The server as a process of its own, for the demo. Environment: KUBE_API_PORT (default: a free one), KUBE_API_DIR (folder
 * of the state file), KUBE_API_TOKEN, KUBE_API_KUBECONFIG (path to write), KUBE_API_ALLOWED_IMAGE_HOSTS (comma-separated,
 * or `any`). Prints one line when it listens; SIGTERM or SIGINT saves the state and ends it.
 */
const {
  KUBE_API_PORT: port,
  KUBE_API_DIR: dir,
  KUBE_API_TOKEN: token,
  KUBE_API_KUBECONFIG: kubeconfig,
  KUBE_API_ALLOWED_IMAGE_HOSTS: hosts,
} = process.env;

const api = await startKubeApi({
  ...(port === undefined ? {} : { port: Number(port) }),
  ...(dir === undefined ? {} : { dir }),
  ...(token === undefined ? {} : { token }),
  ...(hosts === undefined ? {} : { allowedImageHosts: hosts === 'any' ? hosts : hosts.split(',') }),
});
if (kubeconfig !== undefined) api.kubeconfig(kubeconfig);
process.stdout.write(`kube-api listens on ${api.url}\n`);

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    void api.stop().then(() => process.exit(0));
  });
}
