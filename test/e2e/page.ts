import { AxeBuilder } from '@axe-core/playwright';
import { chromium, type Browser, type Page } from 'playwright-core';
import { requireTool, ToolMissing } from '#stack';
import { until } from '../../deploy/drills/play.js';

/** Everything but the network to the page itself is off, and nothing of the browser reports anywhere. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** The machine is busy with the whole product. */
const PATIENCE_MS = 60_000;
const DESK = { width: 1280, height: 860 };
const PHONE = { width: 390, height: 780 };

/** A browser, or undefined with a word when there is none and none could be brought. */
async function browser(): Promise<Browser | undefined> {
  try {
    const { path } = await requireTool('chromium');
    return await chromium.launch({ executablePath: path, args: FLAGS });
  } catch (error) {
    if (!(error instanceof ToolMissing)) throw error;
    process.stderr.write(`SKIPPED: the web page is not tried in a browser: ${error.message}\n`);
    return undefined;
  }
}

/** What a person does with the web page of a demo that is up; `done` is false when there is no browser. */
export interface PageReport {
  readonly done: boolean;
  /** What was wrong anywhere on the way: console errors, failed accessibility rules, pages wider than a phone. */
  readonly faults: readonly string[];
  readonly visited: readonly string[];
}

class Visitor {
  readonly faults: string[] = [];
  readonly visited: string[] = [];

  constructor(readonly page: Page) {
    page.setDefaultTimeout(PATIENCE_MS);
    page.on('console', (message) => {
      if (message.type() === 'error') this.faults.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.faults.push(`script: ${error.message}`));
  }

  /** By name as a screen reader says it. */
  async press(role: 'button' | 'link' | 'tab' | 'menuitem', name: string | RegExp): Promise<void> {
    await this.page
      .getByRole(role, { name, ...(typeof name === 'string' ? { exact: true } : {}) })
      .first()
      .click();
  }

  /** Waits for a text of the page, then checks what must hold on every page, in both schemes, and at phone width. */
  async inspect(what: string, sign: string | RegExp): Promise<void> {
    const { page } = this;
    await page.getByText(sign).first().waitFor();
    this.visited.push(what);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      const { violations } = await new AxeBuilder({ page }).analyze();
      for (const { id, nodes } of violations) {
        this.faults.push(`${what}, ${colorScheme}: ${id} at ${nodes[0]?.html.slice(0, 160) ?? ''}`);
      }
    }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize(PHONE);
    // The layout takes a few frames to follow the new width.
    const fits = async (): Promise<boolean> =>
      Number(await page.evaluate('document.documentElement.scrollWidth - window.innerWidth')) <= 0;
    await until('it is as narrow as a phone', fits, 5_000).catch(() => this.faults.push(`${what}: wider than a phone`));
    await page.setViewportSize(DESK);
  }
}

/**
 * The demo by clicks: signs in with a link, finds the install, deploys it again and watches the graph, reads a job's
 * log, and looks at every other page. Ends with the sign-out, after which nothing is shown any more.
 */
export async function walkPage(url: string, apiKey: string): Promise<PageReport> {
  const opened = await browser();
  if (opened === undefined) return { done: false, faults: [], visited: [] };
  try {
    const context = await opened.newContext({ viewport: DESK });
    const visitor = new Visitor(await context.newPage());
    const { page } = visitor;

    await page.goto(`${url}/`);
    await visitor.inspect('sign-in', 'Sign in with an API key');
    const link = await fetch(`${url}/v1/sign-in-links`, {
      method: 'POST',
      headers: { authorization: `Bearer ${apiKey}` },
    });
    await page.goto(((await link.json()) as { url: string }).url);
    await visitor.press('button', 'Sign in');
    await visitor.inspect('installs', 'globex');

    // By keyboard: the search, then the row.
    await page.keyboard.press('/');
    await page.keyboard.type('glob');
    const row = page.getByRole('link', { name: /globex/ });
    await row.focus();
    await page.keyboard.press('Enter');
    await visitor.inspect('install', 'Last deployment');

    await visitor.press('button', 'Deploy');
    await page.getByRole('dialog').getByRole('button', { name: 'Deploy', exact: true }).click();
    await page.waitForURL(/\/deployments\/dep_/);
    await page.getByRole('heading', { level: 1, name: /^Deploy / }).waitFor();
    await visitor.inspect('deployment, running', 'Graph');
    await page.locator('header, main').getByText('succeeded').first().waitFor();
    await page.locator('.node').first().waitFor();
    await visitor.inspect('deployment, done', 'succeeded');
    await visitor.press('tab', 'Jobs');
    await page.getByRole('link', { name: /^job_/ }).first().click();
    await page.waitForURL(/\/jobs\/job_/);
    await page.locator('.log-line').first().waitFor();
    await page.getByLabel('Search in the log').fill('signed by the vendor');
    await visitor.inspect('job', / of \d|no match/);
    await visitor.press('tab', 'Attempts and steps');
    await visitor.inspect('steps', 'Attempt 1');

    await visitor.press('link', 'Installs');
    await page.getByRole('link', { name: /globex/ }).click();
    for (const [tab, sign] of [
      ['Deployments', 'Release'],
      ['Vitals', 'Memory'],
      ['Pull tokens', 'redeemed'],
      ['Inputs and policy', 'region'],
      ['Events', 'deployment.succeeded'],
    ] as const) {
      await visitor.press('tab', tab);
      await visitor.inspect(`install: ${tab}`, sign);
    }

    await visitor.press('link', 'Apps and releases');
    await visitor.press('link', 'shop');
    await visitor.inspect('app', 'What needs what');
    await visitor.press('tab', 'Builds');
    await visitor.inspect('builds', 'succeeded');
    await visitor.press('tab', 'Releases');
    await page
      .getByRole('link', { name: /^\d+\.\d+\.\d+$/ })
      .first()
      .click();
    await visitor.inspect('release', 'Artifacts');
    await visitor.press('link', 'Jobs');
    await visitor.inspect('jobs', 'All jobs');
    await visitor.press('link', 'Agents');
    await visitor.inspect('agents', 'build agent');

    await visitor.press('button', /^account of/);
    await visitor.press('menuitem', 'Sign out');
    await page.getByText('Sign in with an API key').waitFor();
    const cookies = await context.cookies(`${url}/v1`);
    if (cookies.length > 0) visitor.faults.push('the session’s cookie is still there after the sign-out');
    const stored = await page.evaluate('JSON.stringify(localStorage) + JSON.stringify(sessionStorage)');
    if (String(stored).includes('ims_ven_')) visitor.faults.push('a key is in the browser’s storage');
    return { done: true, faults: visitor.faults, visited: visitor.visited };
  } finally {
    await opened.close();
  }
}
