import { proxyOf, proxySettings } from './proxy.js';

const through = (host: string, noProxy = '', port = 443): boolean =>
  proxyOf(proxySettings({ HTTPS_PROXY: 'http://proxy:3128', NO_PROXY: noProxy }), host, port) !== undefined;

describe('the way out', () => {
  it('is the proxy, but for what NO_PROXY names and this machine', () => {
    expect(through('ims.example.com')).toBe(true);
    for (const host of ['localhost', '127.0.0.1', '127.1.2.3', '::1', '[::1]']) expect(through(host)).toBe(false);
    expect(through('ims.example.com', '*')).toBe(false);
    for (const rule of ['example.com', '.example.com', '*.example.com', 'IMS.example.com', 'x, ims.example.com:443']) {
      expect([rule, through('ims.example.com', rule)]).toEqual([rule, false]);
    }
    expect(through('notexample.com', 'example.com')).toBe(true);
    expect(through('ims.example.com', 'ims.example.com:8443')).toBe(true);
    expect(through('10.1.2.3', '10.0.0.0/8')).toBe(false);
    expect(through('11.1.2.3', '10.0.0.0/8')).toBe(true);
    expect(through('fd00::1', 'fd00::/8')).toBe(false);
    expect(through('name', '10.0.0.0/8')).toBe(true);
  });

  it('is read like curl reads it', () => {
    expect(proxySettings({}).proxy).toBeUndefined();
    expect(proxySettings({ HTTPS_PROXY: '' }).proxy).toBeUndefined();
    expect(proxySettings({ HTTPS_PROXY: 'a:1', https_proxy: 'http://b:2' }).proxy?.host).toBe('b:2');
    expect(proxySettings({ HTTPS_PROXY: 'a:1' }).proxy?.href).toBe('http://a:1/');
    expect(() => proxySettings({ HTTPS_PROXY: 'socks5://u:secret@h:1' })).toThrow(/^(?!.*secret).*HTTPS_PROXY/);
  });
});
