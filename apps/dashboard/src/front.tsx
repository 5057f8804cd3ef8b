import { lazy, Suspense, useState, type ReactNode } from 'react';
import { Button, Center, Paper, PasswordInput, Stack, Text, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Navigate, Route, Routes, useLocation } from 'react-router';
import { believesSignedIn, ims, queries, rememberSignedIn, useChange, type Schemas } from './api.js';
import { Failed, Loading } from './parts/frame.js';
import { Shell } from './shell.js';
import { Installs } from './pages/installs.js';

const AppPage = lazy(() => import('./pages/app.js').then((module) => ({ default: module.AppPage })));
const Apps = lazy(() => import('./pages/apps.js').then((module) => ({ default: module.Apps })));
const InstallPage = lazy(() => import('./pages/install.js').then((module) => ({ default: module.InstallPage })));
const DeploymentPage = lazy(() =>
  import('./pages/deployment.js').then((module) => ({ default: module.DeploymentPage })),
);
const JobPage = lazy(() => import('./pages/job.js').then((module) => ({ default: module.JobPage })));
const Jobs = lazy(() => import('./pages/jobs.js').then((module) => ({ default: module.Jobs })));
const ReleasePage = lazy(() => import('./pages/release.js').then((module) => ({ default: module.ReleasePage })));
const Agents = lazy(() => import('./pages/agents.js').then((module) => ({ default: module.Agents })));

type Session = Schemas['Session'];

/** The whole page for who is signed in; the sign-in for everybody else. */
export function Front() {
  const session = useQuery<Session | null>({
    queryKey: ['session'],
    queryFn: () => ims.get('/v1/session'),
    enabled: believesSignedIn(),
    staleTime: 60_000,
    refetchInterval: 60_000,
  });
  const { pathname, hash } = useLocation();
  if (pathname === '/sign-in' && hash.length > 1) return <SignInByLink code={hash.slice(1)} />;
  if (session.data === null || !believesSignedIn()) return <SignIn />;
  if (session.data === undefined) return session.error === null ? <Loading /> : <SignIn />;
  return (
    <Shell session={session.data}>
      <Suspense fallback={<Loading />}>
        <Routes>
          <Route path="/" element={<Navigate to="/installs" replace />} />
          <Route path="/sign-in" element={<Navigate to="/installs" replace />} />
          <Route path="/installs" element={<Installs />} />
          <Route path="/installs/:id/:tab?" element={<InstallPage />} />
          <Route path="/deployments/:id/:tab?" element={<DeploymentPage />} />
          <Route path="/jobs" element={<Jobs />} />
          <Route path="/jobs/:id/:tab?" element={<JobPage />} />
          <Route path="/apps" element={<Apps />} />
          <Route path="/apps/:id/:tab?" element={<AppPage />} />
          <Route path="/releases/:id" element={<ReleasePage />} />
          <Route path="/agents" element={<Agents />} />
          <Route path="*" element={<Nowhere />} />
        </Routes>
      </Suspense>
    </Shell>
  );
}

function Nowhere() {
  return (
    <Center p="xl">
      <Text className="muted">There is no such page.</Text>
    </Center>
  );
}

function signedIn(session: Session): void {
  rememberSignedIn(true);
  queries.setQueryData(['session'], session);
}

function Door({ children }: { readonly children: ReactNode }) {
  return (
    <Center component="main" mih="100vh" p="md">
      <Paper withBorder p="xl" w="100%" maw={420} radius="md">
        {children}
      </Paper>
    </Center>
  );
}

function SignIn() {
  const [key, setKey] = useState('');
  const signIn = useChange((api_key: string) => ims.post('/v1/session', { body: { api_key } }), signedIn);
  return (
    <Door>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          signIn.mutate(key.trim());
        }}
      >
        <Stack gap="md">
          <div>
            <Title order={1}>Vendor Cloud</Title>
            <Text className="muted" fz="sm" mt={4}>
              Sign in with an API key. It is exchanged for a session and not kept in this browser.
            </Text>
          </div>
          <PasswordInput
            label="API key"
            placeholder="ims_ven_…"
            autoComplete="off"
            value={key}
            required
            data-autofocus
            onChange={({ currentTarget }) => setKey(currentTarget.value)}
            visibilityToggleButtonProps={{ 'aria-label': 'show the key' }}
          />
          {signIn.error !== null && <Failed error={signIn.error} />}
          <Button type="submit" size="sm" loading={signIn.isPending} disabled={key.trim() === ''}>
            Sign in
          </Button>
        </Stack>
      </form>
    </Door>
  );
}

function SignInByLink({ code }: { readonly code: string }) {
  const signIn = useChange(() => ims.post('/v1/session', { body: { code } }), signedIn);
  if (signIn.isSuccess) return <Navigate to="/installs" replace />;
  return (
    <Door>
      <Stack gap="md">
        <div>
          <Title order={1}>Vendor Cloud</Title>
          <Text className="muted" fz="sm" mt={4}>
            This link signs you in once.
          </Text>
        </div>
        {signIn.error !== null && <Failed error={signIn.error} />}
        {/* A button, since mail scanners and previews follow links: they must not spend it. */}
        <Button size="sm" loading={signIn.isPending} onClick={() => signIn.mutate(undefined)}>
          Sign in
        </Button>
      </Stack>
    </Door>
  );
}
