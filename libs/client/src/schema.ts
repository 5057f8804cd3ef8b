// Generated from the routes of apps/gateway by `npm run docs`; do not edit.

export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Where things are. */
        get: operations["getEntrance"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/errors/{code}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What an error code means, and what to do next. */
        get: operations["getError"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This API as an OpenAPI 3.1 document. */
        get: operations["getOpenApi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Build agents and install agents, newest first. */
        get: operations["listAgents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An agent and its presence. */
        get: operations["getAgent"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}/drain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Let an agent take no jobs, and record when the last one has ended: its host may be taken away then. */
        post: operations["drainAgent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}/enrolment-tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A one-use token that enrols (or enrols again) an agent. It is shown once. */
        post: operations["createAgentEnrolmentToken"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Let an agent take no jobs. What runs goes on. */
        post: operations["pauseAgent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Let an agent take jobs again. */
        post: operations["resumeAgent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}/revoke": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Revoke an agent’s identity. A new enrolment token brings it back under a new key. */
        post: operations["revokeAgent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/{agent_id}/settings": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** How many jobs an agent runs at a time, and its labels. What is not named stays. */
        post: operations["updateAgentSettings"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/enrol": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** For agents: exchange an enrolment token and a public key for an identity. */
        post: operations["enrolAgent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/agents/renew": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** For agents: a fresh credential after the last one has ended, by a request that the agent’s key has signed. */
        post: operations["renewAgent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/api-keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** API keys of the vendor, newest first, ended ones too. Their secrets are nowhere. */
        get: operations["listApiKeys"];
        put?: never;
        /** Make an API key of a role, which ends by itself. It is shown once. */
        post: operations["createScopedApiKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/api-keys/{key_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An API key: its role, its end, when it was used last. */
        get: operations["getApiKey"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/api-keys/{key_id}/revoke": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** End an API key. It may work for 3 s more at a replica that has just used it. */
        post: operations["revokeApiKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/apps": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Apps, newest first. */
        get: operations["listApps"];
        put?: never;
        /** Create an app. */
        post: operations["createApp"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/apps/{app_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An app. */
        get: operations["getApp"];
        /** Replace the settings of an app. Installs take changed inputs with their next deployment. */
        put: operations["updateApp"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/apps/{app_id}/builds": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Builds of an app, newest first. */
        get: operations["listBuilds"];
        put?: never;
        /** Build components (default: all) from their sources. */
        post: operations["createBuilds"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/apps/{app_id}/channels": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Channels of an app, newest first. */
        get: operations["listChannels"];
        put?: never;
        /** Create a channel: which release its installs are meant to have. */
        post: operations["createChannel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/apps/{app_id}/components": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Components of an app, newest first. */
        get: operations["listComponents"];
        put?: never;
        /** Add a component to an app. */
        post: operations["createComponent"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/apps/{app_id}/releases": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Releases of an app, newest first. */
        get: operations["listReleases"];
        put?: never;
        /** Make a release of the newest successful build of each component. */
        post: operations["createRelease"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who changed what, from where, what it was and what it became; refusals too. Newest first, append-only. */
        get: operations["listAudit"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/builds/{build_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A build; its job has the log. */
        get: operations["getBuild"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/channels/{channel_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A channel. */
        get: operations["getChannel"];
        /** Replace the settings of a channel: whether it deploys by itself, and how. */
        put: operations["updateChannel"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/channels/{channel_id}/promote": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Make a release the channel’s. */
        post: operations["promoteRelease"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/components/{component_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A component. */
        get: operations["getComponent"];
        /** Replace the specification of a component. Later releases have it; those that exist do not change. */
        put: operations["updateComponent"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/dead-letters": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Messages of agents that no service could take, and why, newest first. */
        get: operations["listDeadLetters"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/dead-letters/{dead_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A message that no service could take, with its content. */
        get: operations["getDeadLetter"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/dead-letters/{dead_id}/discard": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Put a message away that nobody needs. */
        post: operations["discardDeadLetter"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/dead-letters/{dead_id}/redrive": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send a message again to where it came from, once. */
        post: operations["redriveDeadLetter"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/deployments/{deployment_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A deployment; with `Prefer: wait=N` when it has ended. */
        get: operations["getDeployment"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/deployments/{deployment_id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Cancel all jobs of a deployment that are not finished. */
        post: operations["cancelDeployment"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/deployments/{deployment_id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** History of a deployment. */
        get: operations["listDeploymentEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/deployments/{deployment_id}/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Add jobs to a graph of jobs that is not finished. */
        post: operations["extendWork"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/deployments/{deployment_id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Go on where an ended deployment stopped, or from one of its jobs, with or without some of them. */
        post: operations["retryDeployment"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/fleet": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Every install at a glance, newest first: version, health, last contact. Searchable. */
        get: operations["listFleet"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Installs, newest first. */
        get: operations["listInstalls"];
        put?: never;
        /** Create an install of an app: one customer’s copy, with its inputs and its agent identity. */
        post: operations["createInstall"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An install: its release, components and their outputs. */
        get: operations["getInstall"];
        /** Replace the settings of an install. New inputs reach it with its next deployment. */
        put: operations["updateInstall"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/components": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Components of an install with their health, and what differs from what was deployed. */
        get: operations["listInstallComponents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/deployments": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Deployments of an install, newest first. */
        get: operations["listDeployments"];
        put?: never;
        /** Take an install to a release, or tear it down. */
        post: operations["createDeployment"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/deprovision": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Give up an install whose agent is gone: marked, its leftovers listed, the agent’s identity revoked. */
        post: operations["deprovisionInstall"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/enrolment-tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A one-use token that enrols (or enrols again) the agent of an install. It is shown once. */
        post: operations["createInstallEnrolmentToken"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** History of an install: facts, hash-chained. */
        get: operations["listInstallEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What happened to an install, oldest first. `resume_cursor` goes on where this page ends, also later. */
        get: operations["readInstallHistory"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/history/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The whole history of an install, one entry a line. */
        get: operations["exportInstallHistory"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Run a graph of jobs at an install, all or none; it is read, waited for and cancelled as a deployment. */
        post: operations["createWork"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lines of all jobs of an install, by text or expression, level, step and time; newest attempt first. */
        get: operations["searchInstallLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/observations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Health and drift over time, newest first: each line is a change. */
        get: operations["listObservations"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/observe": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Look for drift now: a probe of each component that is there. It changes nothing. */
        post: operations["observeInstall"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/pull-tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One-time pull tokens that were issued for an install, newest first. Their secrets are nowhere. */
        get: operations["listPullTokens"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/vitals": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** CPU, memory, disk and clock of the install’s agent, newest first. */
        get: operations["listInstallVitals"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/installs/{install_id}/vitals/series": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Vitals of the install’s agent for a chart, and when it was there with which version. */
        get: operations["readInstallVitalsSeries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Jobs, newest first. */
        get: operations["listJobs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A job, and why it waits; with `Prefer: wait=N` when it has ended. */
        get: operations["getJob"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/attempts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Attempts of a job with their steps. */
        get: operations["listAttempts"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Cancel a job. A running one ends when its agent has proven that its processes are gone. */
        post: operations["cancelJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** History of a job. */
        get: operations["listJobEvents"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The log of a job: whole as NDJSON or text, or live as server-sent events that resume by their ids. */
        get: operations["readJobLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/logs/search": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Lines of a job, by text or expression, level, step and time; newest attempt first. */
        get: operations["searchJobLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/plan": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the latest attempt of a job would do, or has done; sensitive values are hidden. */
        get: operations["getJobPlan"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/plan/approve": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Say yes to the plan that a job waits with. If-Match: the ETag of the plan that was read. */
        post: operations["approvePlan"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/plan/reject": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Say no to the plan that a job waits with: the job fails. If-Match: the ETag of the plan that was read. */
        post: operations["rejectPlan"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Let a job go on that is held because a token of it was tampered with. Its customer’s holds stay. */
        post: operations["resumeJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Do not wait for the time of a delayed job; of a build that has ended, make a new one. Answers what runs. */
        post: operations["retryJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/skip": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Leave out a job that has not begun. What depends on it goes on as if it had succeeded. */
        post: operations["skipJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/trace": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What was done for a job, as one trace: the wait, each attempt, each step. */
        get: operations["readJobTrace"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/jobs/{job_id}/unlock": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Take its lock away from a running job. Its attempt ends with its lease, then the lock is free. */
        post: operations["unlockJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/locks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Locks that running jobs hold, their leases, and how many jobs wait for each. */
        get: operations["listLocks"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/pull-tokens/{token_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What became of a pull token. Looking burns nothing. */
        get: operations["getPullToken"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/pull-tokens/{token_id}/revoke": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** End a pull token that is not redeemed. What a redeemed one gave cannot be recalled; it ends by itself. */
        post: operations["revokePullToken"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/releases/{release_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A release: one artifact digest for each component. */
        get: operations["getRelease"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/releases/{release_id}/mark-bad": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Deploy this release nowhere any more; channels go back to the one before, rollouts of it stop. */
        post: operations["markBad"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/releases/{release_id}/mark-good": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Take the mark back. */
        post: operations["markGood"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/retention": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How long logs are kept. */
        get: operations["getRetention"];
        /** Keep the logs of attempts that begin from now on for 7, 30, 90 or 400 days. */
        put: operations["setRetention"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/retention/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the logs take that are kept now. */
        get: operations["getLogUsage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Rollouts, newest first. */
        get: operations["listRollouts"];
        put?: never;
        /** Take many installs to a release: group after group, a few at a time, watched, stopped at failures. */
        post: operations["createRollout"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts/{rollout_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A rollout: where it stands and why it waits. */
        get: operations["getRollout"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts/{rollout_id}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** End a rollout; installs under way finish. */
        post: operations["cancelRollout"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts/{rollout_id}/installs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Installs of a rollout, newest first, each with what keeps it back. */
        get: operations["listRolloutInstalls"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts/{rollout_id}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Begin no further install; those under way go on. */
        post: operations["pauseRollout"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts/{rollout_id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Go on with a rollout that was paused, or has stopped. */
        post: operations["resumeRollout"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who is signed in, and until when. */
        get: operations["getSession"];
        put?: never;
        /** For the web page: sign in with an API key, or with the code of a sign-in link. Sets the session’s cookie. */
        post: operations["signIn"];
        /** For the web page: sign out. The session ends everywhere. */
        delete: operations["signOut"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/sign-in-links": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A link that opens the web page signed in with the key of this request. It works once, for a few minutes. */
        post: operations["createSignInLink"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vendor": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The vendor whose API key this is. */
        get: operations["getVendor"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vendors": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sign up a vendor: its registry namespace, build agent identity and first API key. Secrets are shown once. */
        post: operations["signUpVendor"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vendors/{vendor_id}/keys": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Make another API key for a vendor. It is shown once. */
        post: operations["createApiKey"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook-deliveries/{delivery_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A delivery: what it holds, how often it was tried, what the endpoint answered. */
        get: operations["getWebhookDelivery"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook-deliveries/{delivery_id}/redeliver": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send it again, under the same `webhook-id`. */
        post: operations["redeliverWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Webhooks of the vendor, newest first. */
        get: operations["listWebhooks"];
        put?: never;
        /** Be told of facts at a URL, signed by Standard Webhooks. The secret is shown once. */
        post: operations["createWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks/{webhook_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A webhook: whether it is on, since when nothing arrives. */
        get: operations["getWebhook"];
        /** Replace URL, filter and description, turn it off or on again. */
        put: operations["updateWebhook"];
        post?: never;
        /** Delete a webhook and the list of its deliveries. */
        delete: operations["deleteWebhook"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks/{webhook_id}/deliveries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What was sent or is to be sent, newest first. Kept for 30 days. */
        get: operations["listWebhookDeliveries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks/{webhook_id}/rotate-secret": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A new secret, shown once. The old one signs nothing any more. */
        post: operations["rotateWebhookSecret"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhooks/{webhook_id}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send a `webhook.test`, whatever the filter says. */
        post: operations["testWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        Agent: {
            /** Format: date-time */
            created_at: string;
            customer_policy?: {
                [key: string]: unknown;
            };
            id: string;
            install_id?: string;
            intake?: components["schemas"]["AgentIntake"];
            /** @enum {string} */
            kind: "build" | "install";
            labels: {
                [key: string]: unknown;
            };
            /** Format: date-time */
            last_seen_at?: string;
            /** @enum {string} */
            presence: "never_enrolled" | "online" | "offline" | "revoked";
            public_key?: string;
            running: number;
            slots: number;
            version?: string;
        };
        AgentIntake: {
            by: string;
            note: string;
            /** Format: date-time */
            since: string;
            /** @enum {string} */
            state: "paused" | "draining" | "drained";
        };
        AgentPage: {
            data: components["schemas"]["Agent"][];
            next_cursor?: string;
        };
        AgentSettings: {
            labels?: {
                [key: string]: unknown;
            };
            slots?: number;
        };
        ApiKey: {
            api_key: string;
            id: string;
            vendor_id: string;
        };
        App: {
            approval?: components["schemas"]["ApprovalPolicy"];
            /** Format: date-time */
            created_at: string;
            id: string;
            inputs?: components["schemas"]["InputDeclaration"][];
            name: string;
        };
        AppPage: {
            data: components["schemas"]["App"][];
            next_cursor?: string;
        };
        ApprovalPolicy: {
            approvers?: string[];
            /** @enum {string} */
            by?: "vendor" | "customer" | "both";
            expires_hours?: number;
            needed?: number;
            /** @enum {string} */
            when: "never" | "on_change" | "on_delete" | "always";
        };
        AppSettings: {
            approval?: components["schemas"]["ApprovalPolicy"];
            inputs?: components["schemas"]["InputDeclaration"][];
        };
        Artifact: {
            digest: string;
            media_type: string;
            repository: string;
            size_bytes: number;
        };
        Attempt: {
            agent_id: string;
            /** Format: date-time */
            ended_at?: string;
            error?: components["schemas"]["Problem"];
            /** Format: date-time */
            granted_at: string;
            number: number;
            /** @enum {string} */
            status: "running" | "succeeded" | "failed" | "cancelled" | "deferred" | "lost";
            steps: components["schemas"]["Step"][];
        };
        AttemptPage: {
            data: components["schemas"]["Attempt"][];
            next_cursor?: string;
        };
        AuditPage: {
            data: components["schemas"]["AuditRecord"][];
            next_cursor?: string;
        };
        AuditRecord: {
            action: string;
            actor: string;
            after?: {
                [key: string]: unknown;
            };
            /** Format: date-time */
            at: string;
            before?: {
                [key: string]: unknown;
            };
            code?: string;
            id: string;
            ip: string;
            method: string;
            path: string;
            request?: {
                [key: string]: unknown;
            };
            request_id: string;
            status: number;
            user_agent?: string;
        };
        BadRelease: {
            reason: string;
        };
        Build: {
            app_id: string;
            artifact?: components["schemas"]["Artifact"];
            component_id: string;
            component_name: string;
            /** Format: date-time */
            created_at: string;
            error?: components["schemas"]["Problem"];
            /** Format: date-time */
            finished_at?: string;
            id: string;
            job_id: string;
            source_commit?: string;
            /** @enum {string} */
            status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
        };
        BuildPage: {
            data: components["schemas"]["Build"][];
            next_cursor?: string;
        };
        CancelRequest: {
            force?: boolean;
            reason?: string;
        };
        Channel: {
            app_id: string;
            auto_deploy?: boolean;
            /** Format: date-time */
            created_at: string;
            id: string;
            name: string;
            release_id?: string;
            strategy?: components["schemas"]["RolloutStrategy"];
            version?: string;
        };
        ChannelPage: {
            data: components["schemas"]["Channel"][];
            next_cursor?: string;
        };
        ChannelSettings: {
            auto_deploy?: boolean;
            strategy?: components["schemas"]["RolloutStrategy"];
        };
        Component: {
            app_id: string;
            /** Format: date-time */
            created_at: string;
            depends_on?: string[];
            dockerfile?: string;
            id: string;
            image?: string;
            /** @enum {string} */
            kind: "container-image" | "external-image" | "helm-chart" | "terraform-module" | "kubernetes-manifests" | "job";
            name: string;
            namespace?: string;
            run?: components["schemas"]["RunSpec"];
            source?: components["schemas"]["SourceRef"];
            values?: {
                [key: string]: unknown;
            };
        };
        ComponentPage: {
            data: components["schemas"]["Component"][];
            next_cursor?: string;
        };
        ComponentSpec: {
            depends_on?: string[];
            dockerfile?: string;
            image?: string;
            /** @enum {string} */
            kind: "container-image" | "external-image" | "helm-chart" | "terraform-module" | "kubernetes-manifests" | "job";
            namespace?: string;
            run?: components["schemas"]["RunSpec"];
            source?: components["schemas"]["SourceRef"];
            values?: {
                [key: string]: unknown;
            };
        };
        ComponentState: {
            difference?: components["schemas"]["PlanSummary"];
            digest?: string;
            drifted?: boolean;
            /** @enum {string} */
            health?: "healthy" | "progressing" | "degraded" | "missing" | "unknown";
            kind: string;
            name: string;
            /** Format: date-time */
            observed_at?: string;
            outputs?: {
                [key: string]: unknown;
            };
            reasons?: string[];
            sensitive_outputs?: string[];
            /** @enum {string} */
            status: "absent" | "deployed" | "failed" | "removed";
            /** Format: date-time */
            updated_at: string;
        };
        ComponentStatePage: {
            data: components["schemas"]["ComponentState"][];
            next_cursor?: string;
        };
        DeadLetter: {
            agent_id?: string;
            /** Format: date-time */
            at: string;
            body?: {
                [key: string]: unknown;
            };
            cause: string;
            code: string;
            contract: string;
            id: string;
            job_id?: string;
            note?: string;
            service: string;
            /** Format: date-time */
            settled_at?: string;
            settled_by?: string;
            size_bytes: number;
            /** @enum {string} */
            status: "open" | "redriven" | "discarded";
            subject: string;
        };
        DeadLetterPage: {
            data: components["schemas"]["DeadLetter"][];
            next_cursor?: string;
        };
        Deployment: {
            /** Format: date-time */
            created_at: string;
            error?: components["schemas"]["Problem"];
            /** Format: date-time */
            finished_at?: string;
            id: string;
            install_id: string;
            jobs: components["schemas"]["DeploymentJobCounts"];
            /** @enum {string} */
            kind: "deploy" | "teardown" | "work";
            release_id?: string;
            retry_of?: string;
            rollback?: boolean;
            rollout_id?: string;
            /** @enum {string} */
            status: "running" | "cancelling" | "succeeded" | "failed" | "cancelled";
        };
        DeploymentJobCounts: {
            failed: number;
            succeeded: number;
            total: number;
            unfinished: number;
        };
        DeploymentPage: {
            data: components["schemas"]["Deployment"][];
            next_cursor?: string;
        };
        Deprovision: {
            force?: boolean;
            reason: string;
        };
        Deprovisioned: {
            /** Format: date-time */
            at: string;
            by: string;
            leftovers: string[];
            reason: string;
        };
        Enrolment: {
            agent_id: string;
            install_id?: string;
            job_keys: string[];
            /** @enum {string} */
            kind: "build" | "install";
            nats_jwt: string;
            /** Format: date-time */
            nats_jwt_expires_at: string;
            nats_urls: string[];
            registry_token_url: string;
            vendor_id: string;
            vendor_keys: string[];
            vendor_registry: components["schemas"]["VendorRegistry"];
        };
        EnrolmentToken: {
            agent_id: string;
            command: string;
            /** Format: date-time */
            expires_at: string;
            token: string;
        };
        EnrolRequest: {
            public_key: string;
            signing_public_key?: string;
            token: string;
            version: string;
        };
        Entrance: {
            links: {
                [key: string]: unknown;
            };
            name: string;
            openapi: string;
        };
        Envelope: {
            key_id: string;
            payload: string;
            payload_type: string;
            signature: string;
        };
        ErrorEntry: {
            code: string;
            next: string;
            /** @enum {string} */
            retry: "retry" | "wait" | "fix" | "human";
            status: number;
            title: string;
        };
        Event: {
            actor: string;
            agent_id?: string;
            /** Format: date-time */
            at: string;
            chain: string;
            data: {
                [key: string]: unknown;
            };
            deployment_id?: string;
            hash: string;
            id: string;
            install_id?: string;
            job_id?: string;
            prev_hash: string;
            seq: number;
            type: string;
            vendor_id: string;
        };
        EventPage: {
            data: components["schemas"]["Event"][];
            next_cursor?: string;
        };
        FieldChange: {
            after?: string;
            before?: string;
            hidden?: boolean;
            path: string;
            set_by?: string;
        };
        FleetInstall: {
            agent_id: string;
            app_id: string;
            app_name: string;
            behind: number;
            /** @enum {string} */
            health: "deploying" | "failed" | "absent" | "unknown" | "healthy";
            id: string;
            /** Format: date-time */
            last_seen_at?: string;
            name: string;
            /** @enum {string} */
            presence: "never_enrolled" | "online" | "offline" | "revoked";
            release_id?: string;
            version?: string;
        };
        FleetPage: {
            data: components["schemas"]["FleetInstall"][];
            next_cursor?: string;
        };
        HistoryEntry: {
            /** Format: date-time */
            at: string;
            event: components["schemas"]["Event"];
            id: string;
            /** @enum {string} */
            kind: "install" | "deployment" | "job" | "plan" | "agent" | "token" | "other";
            title: string;
        };
        HistoryPage: {
            data: components["schemas"]["HistoryEntry"][];
            next_cursor?: string;
            resume_cursor: string;
        };
        Hold: {
            /** @enum {string} */
            code: "token_tampered" | "awaiting_approval" | "customer_paused" | "customer_window" | "awaiting_customer_approval";
            detail: string;
            plan_digest?: string;
            /** Format: date-time */
            until?: string;
        };
        InputDeclaration: {
            default?: unknown;
            description?: string;
            name: string;
            pattern?: string;
            required?: boolean;
            /** @enum {string} */
            set_by?: "vendor" | "customer";
            /** @enum {string} */
            type: "string" | "number" | "boolean" | "list" | "enum" | "secret";
            values?: string[];
        };
        Install: {
            agent_id: string;
            app_id: string;
            approval?: components["schemas"]["ApprovalPolicy"];
            channel_id?: string;
            components: components["schemas"]["InstallComponent"][];
            /** Format: date-time */
            created_at: string;
            customer_policy?: {
                [key: string]: unknown;
            };
            deprovisioned?: components["schemas"]["Deprovisioned"];
            id: string;
            inputs: {
                [key: string]: unknown;
            };
            labels?: {
                [key: string]: string;
            };
            name: string;
            observe?: components["schemas"]["ObservePolicy"];
            release_id?: string;
        };
        InstallComponent: {
            digest?: string;
            kind: string;
            name: string;
            outputs?: {
                [key: string]: unknown;
            };
            sensitive_outputs?: string[];
            /** @enum {string} */
            status: "absent" | "deployed" | "failed" | "removed";
            /** Format: date-time */
            updated_at: string;
        };
        InstallPage: {
            data: components["schemas"]["Install"][];
            next_cursor?: string;
        };
        InstallSettings: {
            approval?: components["schemas"]["ApprovalPolicy"];
            channel_id?: string;
            inputs?: {
                [key: string]: unknown;
            };
            labels?: {
                [key: string]: string;
            };
            observe?: components["schemas"]["ObservePolicy"];
        };
        IntakeRequest: {
            note?: string;
        };
        Job: {
            agent_id: string;
            allow_failure?: boolean;
            attempt: number;
            build_id?: string;
            component: components["schemas"]["JobComponent"];
            /** Format: date-time */
            created_at: string;
            depends_on: string[];
            deployment_id?: string;
            error?: components["schemas"]["Problem"];
            /** Format: date-time */
            expires_at?: string;
            /** Format: date-time */
            finished_at?: string;
            hold?: components["schemas"]["Hold"];
            id: string;
            install_id?: string;
            key?: string;
            /** @enum {string} */
            kind: "build" | "sync" | "apply" | "destroy" | "observe" | "noop";
            lock?: string;
            /** Format: date-time */
            not_before?: string;
            priority: number;
            result?: {
                [key: string]: unknown;
            };
            singleton?: string;
            /** Format: date-time */
            started_at?: string;
            /** @enum {string} */
            status: "blocked" | "queued" | "running" | "cancelling" | "succeeded" | "failed" | "cancelled" | "skipped";
            trace_id?: string;
            waiting_reason?: components["schemas"]["WaitingReason"];
        };
        JobComponent: {
            id: string;
            /** @enum {string} */
            kind: "container-image" | "external-image" | "helm-chart" | "terraform-module" | "kubernetes-manifests" | "job";
            name: string;
        };
        JobPage: {
            data: components["schemas"]["Job"][];
            next_cursor?: string;
        };
        JobPlan: {
            approvals: components["schemas"]["PlanApproval"][];
            attempt: number;
            changed: boolean;
            changes: components["schemas"]["PlannedChange"][];
            component: components["schemas"]["JobComponent"];
            created: number;
            deleted: number;
            digest: string;
            install_id: string;
            job_id: string;
            omitted: number;
            /** Format: date-time */
            planned_at: string;
            text: string;
            updated: number;
        };
        JobTrace: {
            spans: components["schemas"]["TraceSpan"][];
            trace_id: string;
        };
        KeySummary: {
            /** Format: date-time */
            created_at: string;
            created_by: string;
            /** Format: date-time */
            expires_at?: string;
            id: string;
            /** Format: date-time */
            last_used_at?: string;
            name: string;
            /** Format: date-time */
            revoked_at?: string;
            /** @enum {string} */
            role: "owner" | "engineer" | "ci" | "read_only";
        };
        KeySummaryPage: {
            data: components["schemas"]["KeySummary"][];
            next_cursor?: string;
        };
        Lock: {
            agent_id: string;
            attempt: number;
            install_id?: string;
            job_id: string;
            /** Format: date-time */
            lease_until: string;
            name: string;
            /** Format: date-time */
            taken_at: string;
            unlocking?: boolean;
            waiting: number;
        };
        LockPage: {
            data: components["schemas"]["Lock"][];
            next_cursor?: string;
        };
        LogHit: {
            /** Format: date-time */
            at: string;
            attempt: number;
            job_id: string;
            /** @enum {string} */
            level: "debug" | "info" | "warn" | "error";
            seq: number;
            step: string;
            text: string;
        };
        LogHitPage: {
            data: components["schemas"]["LogHit"][];
            next_cursor?: string;
            searched_lines: number;
        };
        LogLine: {
            /** Format: date-time */
            at: string;
            attempt: number;
            /** @enum {string} */
            level: "debug" | "info" | "warn" | "error";
            seq: number;
            step: string;
            text: string;
        };
        LogUsage: {
            attempts: number;
            bytes: number;
            lines: number;
            /** Format: date-time */
            oldest_at?: string;
            stored_bytes: number;
        };
        MarkedBad: {
            /** Format: date-time */
            at: string;
            reason: string;
        };
        NewApiKey: {
            /** Format: date-time */
            expires_at?: string;
            name: string;
            /** @enum {string} */
            role: "owner" | "engineer" | "ci" | "read_only";
        };
        NewApp: {
            approval?: components["schemas"]["ApprovalPolicy"];
            inputs?: components["schemas"]["InputDeclaration"][];
            name: string;
        };
        NewBuilds: {
            components?: string[];
        };
        NewChannel: {
            auto_deploy?: boolean;
            name: string;
            strategy?: components["schemas"]["RolloutStrategy"];
        };
        NewComponent: {
            depends_on?: string[];
            dockerfile?: string;
            image?: string;
            /** @enum {string} */
            kind: "container-image" | "external-image" | "helm-chart" | "terraform-module" | "kubernetes-manifests" | "job";
            name: string;
            namespace?: string;
            run?: components["schemas"]["RunSpec"];
            source?: components["schemas"]["SourceRef"];
            values?: {
                [key: string]: unknown;
            };
        };
        NewDeployment: {
            /** @enum {string} */
            kind: "deploy" | "teardown";
            priority?: number;
            release_id?: string;
            rollback?: boolean;
        };
        NewInstall: {
            app_id: string;
            approval?: components["schemas"]["ApprovalPolicy"];
            channel_id?: string;
            inputs?: {
                [key: string]: unknown;
            };
            labels?: {
                [key: string]: string;
            };
            name: string;
            observe?: components["schemas"]["ObservePolicy"];
        };
        NewKeyShownOnce: {
            api_key: string;
            /** Format: date-time */
            created_at: string;
            created_by: string;
            /** Format: date-time */
            expires_at?: string;
            id: string;
            /** Format: date-time */
            last_used_at?: string;
            name: string;
            /** Format: date-time */
            revoked_at?: string;
            /** @enum {string} */
            role: "owner" | "engineer" | "ci" | "read_only";
        };
        NewRelease: {
            builds?: string[];
            required?: boolean;
            rollback_floor?: string;
            version: string;
        };
        NewRollout: {
            channel_id?: string;
            give_up_seconds?: number;
            groups?: components["schemas"]["RolloutGroup"][];
            max_failures?: number;
            max_parallel?: number;
            release_id: string;
            rollback?: boolean;
        };
        NewVendor: {
            name: string;
        };
        NewWork: {
            jobs: components["schemas"]["NewWorkJob"][];
        };
        NewWorkJob: {
            allow_failure?: boolean;
            component: string;
            delay_seconds?: number;
            depends_on?: string[];
            /** Format: date-time */
            expires_at?: string;
            key: string;
            /** @enum {string} */
            kind: "noop" | "sync";
            lock?: string;
            /** Format: date-time */
            not_before?: string;
            priority?: number;
            singleton?: string;
        };
        Observation: {
            /** Format: date-time */
            at: string;
            component: string;
            difference?: components["schemas"]["PlanSummary"];
            drifted: boolean;
            /** @enum {string} */
            health: "healthy" | "progressing" | "degraded" | "missing" | "unknown";
            job_id: string;
            reasons: string[];
        };
        ObservationPage: {
            data: components["schemas"]["Observation"][];
            next_cursor?: string;
        };
        ObservePolicy: {
            cron: string;
            fix?: boolean;
            time_zone: string;
        };
        PlanApproval: {
            /** Format: date-time */
            at: string;
            by: string;
            /** @enum {string} */
            decision: "approved" | "rejected";
            /** Format: date-time */
            expires_at: string;
            note?: string;
        };
        PlannedChange: {
            /** @enum {string} */
            action: "delete" | "replace" | "create" | "update" | "run";
            fields?: components["schemas"]["FieldChange"][];
            namespace?: string;
            resource: string;
        };
        PlanNote: {
            note?: string;
        };
        PlanSummary: {
            changed: boolean;
            changes: components["schemas"]["PlannedChange"][];
            created: number;
            deleted: number;
            digest: string;
            omitted: number;
            updated: number;
        };
        PresenceSpan: {
            /** Format: date-time */
            from: string;
            /** Format: date-time */
            to: string;
            version: string;
        };
        Problem: {
            code: string;
            detail: string;
        };
        ProblemDocument: {
            /** @enum {string} */
            code: "invalid_request" | "malformed_body" | "unauthenticated" | "forbidden" | "not_found" | "already_exists" | "conflict" | "idempotency_mismatch" | "idempotency_in_progress" | "precondition_required" | "precondition_failed" | "payload_too_large" | "unsupported_media_type" | "method_not_allowed" | "rate_limited" | "unavailable" | "internal" | "dependency_cycle" | "unknown_component" | "unknown_reference" | "invalid_template" | "missing_input" | "nothing_built" | "deployment_in_progress" | "release_required" | "release_bad" | "rollback_refused" | "enrolment_refused" | "agent_revoked" | "agent_too_old" | "job_not_claimable" | "stale_attempt" | "lease_expired" | "cancelled" | "timed_out" | "job_replaced" | "job_skipped" | "job_expired" | "dependency_failed" | "statement_refused" | "source_unavailable" | "source_invalid" | "image_build_failed" | "external_image_unavailable" | "external_reference" | "tool_missing" | "artifact_missing" | "digest_mismatch" | "signature_missing" | "signature_untrusted" | "signature_invalid" | "signature_swapped" | "provenance_refused" | "registry_unavailable" | "registry_denied" | "pull_token_refused" | "plan_failed" | "apply_failed" | "destroy_failed" | "stale_plan" | "plan_unapproved" | "plan_rejected" | "release_downgraded" | "policy_refused" | "held_by_customer" | "agent_error";
            detail: string;
            errors?: {
                message: string;
                /** @description JSON Pointer (RFC 6901) to the field. */
                pointer: string;
            }[];
            instance: string;
            /** @description What to do next. */
            next: string;
            request_id: string;
            /** @enum {string} */
            retry?: "fix" | "retry" | "wait" | "human";
            status: number;
            title: string;
            /** @description A page that explains the code. */
            type: string;
        };
        Promotion: {
            release_id: string;
            rollback?: boolean;
        };
        PullToken: {
            digest: string;
            /** Format: date-time */
            expires_at: string;
            id: string;
            install_id: string;
            /** Format: date-time */
            issued_at: string;
            job_id: string;
            /** Format: date-time */
            redeemed_at?: string;
            repository: string;
            /** @enum {string} */
            status: "issued" | "redeemed" | "expired" | "revoked";
            /** Format: date-time */
            tampered_at?: string;
        };
        PullTokenPage: {
            data: components["schemas"]["PullToken"][];
            next_cursor?: string;
        };
        ReasonRequest: {
            reason?: string;
        };
        RegistryNamespace: {
            namespace: string;
            url: string;
        };
        Release: {
            app_id: string;
            bad?: components["schemas"]["MarkedBad"];
            components: components["schemas"]["ReleaseComponent"][];
            /** Format: date-time */
            created_at: string;
            id: string;
            inputs?: components["schemas"]["InputDeclaration"][];
            required?: boolean;
            rollback_floor?: string;
            version: string;
        };
        ReleaseComponent: {
            artifact: components["schemas"]["Artifact"];
            build_id: string;
            component_id: string;
            depends_on?: string[];
            dockerfile?: string;
            image?: string;
            /** @enum {string} */
            kind: "container-image" | "external-image" | "helm-chart" | "terraform-module" | "kubernetes-manifests" | "job";
            name: string;
            namespace?: string;
            references?: string[];
            run?: components["schemas"]["RunSpec"];
            source?: components["schemas"]["SourceRef"];
            source_commit: string;
            values?: {
                [key: string]: unknown;
            };
        };
        ReleasePage: {
            data: components["schemas"]["Release"][];
            next_cursor?: string;
        };
        ResumeRequest: {
            reason?: string;
        };
        Retention: {
            log_days: number;
        };
        RetryRequest: {
            from?: string;
            reason?: string;
            skip?: string[];
        };
        Rollout: {
            app_id: string;
            channel_id?: string;
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            finished_at?: string;
            give_up_seconds?: number;
            group?: string;
            groups?: components["schemas"]["RolloutGroup"][];
            id: string;
            installs: components["schemas"]["RolloutCounts"];
            max_failures?: number;
            max_parallel?: number;
            release_id: string;
            rollback?: boolean;
            /** @enum {string} */
            status: "running" | "paused" | "stopped" | "succeeded" | "cancelled";
            version: string;
            waiting_reason?: components["schemas"]["RolloutReason"];
        };
        RolloutChange: {
            reason?: string;
            retry_failed?: boolean;
        };
        RolloutCounts: {
            deploying: number;
            failed: number;
            parked: number;
            pending: number;
            skipped: number;
            succeeded: number;
            total: number;
            waiting: number;
        };
        RolloutGroup: {
            labels: {
                [key: string]: string;
            };
            name: string;
            soak_seconds?: number;
        };
        RolloutInstall: {
            deployment_id?: string;
            error?: components["schemas"]["Problem"];
            group: string;
            install_id: string;
            name: string;
            reason?: components["schemas"]["RolloutReason"];
            /** @enum {string} */
            status: "pending" | "waiting" | "deploying" | "parked" | "succeeded" | "failed" | "skipped";
            /** Format: date-time */
            updated_at: string;
        };
        RolloutInstallPage: {
            data: components["schemas"]["RolloutInstall"][];
            next_cursor?: string;
        };
        RolloutPage: {
            data: components["schemas"]["Rollout"][];
            next_cursor?: string;
        };
        RolloutReason: {
            /** @enum {string} */
            code: "agent_never_enrolled" | "agent_offline" | "agent_revoked" | "customer_paused" | "customer_window" | "deployment_in_progress" | "held" | "up_to_date" | "removed" | "refused" | "given_up" | "unhealthy" | "deploying" | "soaking" | "installs_waiting" | "paused" | "stopped";
            detail: string;
            unblock: string;
            /** Format: date-time */
            until?: string;
        };
        RolloutStrategy: {
            give_up_seconds?: number;
            groups?: components["schemas"]["RolloutGroup"][];
            max_failures?: number;
            max_parallel?: number;
        };
        RunSpec: {
            args?: string[];
            command?: string[];
            image: string;
            timeout_seconds?: number;
        };
        Session: {
            /** Format: date-time */
            expires_at?: string;
            vendor: components["schemas"]["Vendor"];
        };
        SignedOut: {
            /** Format: date-time */
            at: string;
        };
        SignIn: {
            api_key?: string;
            code?: string;
        };
        SignInLink: {
            /** Format: date-time */
            expires_at: string;
            url: string;
        };
        SourceRef: {
            directory?: string;
            ref?: string;
            url: string;
        };
        Step: {
            detail?: {
                [key: string]: unknown;
            };
            duration_ms?: number;
            name: string;
            /** Format: date-time */
            started_at: string;
            /** @enum {string} */
            status: "started" | "done" | "failed";
            tool_ms?: number;
        };
        TraceSpan: {
            attributes: {
                [key: string]: unknown;
            };
            /** Format: date-time */
            ended_at?: string;
            name: string;
            parent_span_id?: string;
            span_id: string;
            /** Format: date-time */
            started_at: string;
            /** @enum {string} */
            status: "running" | "ok" | "error";
        };
        Vendor: {
            /** Format: date-time */
            created_at: string;
            id: string;
            name: string;
        };
        VendorAccount: {
            api_key: string;
            build_agent: components["schemas"]["EnrolmentToken"];
            registry: components["schemas"]["RegistryNamespace"];
            vendor: components["schemas"]["Vendor"];
        };
        VendorRegistry: {
            namespace: string;
            url: string;
        };
        Vitals: {
            /** Format: date-time */
            at: string;
            clock_skew_ms: number;
            cpu_percent: number;
            disk_free_bytes: number;
            jobs_running: number;
            memory_bytes: number;
            uptime_s: number;
            version: string;
        };
        VitalsPage: {
            data: components["schemas"]["Vitals"][];
            next_cursor?: string;
        };
        VitalsPoint: {
            /** Format: date-time */
            at: string;
            clock_skew_ms: number;
            cpu_percent_max: number;
            cpu_percent_mean: number;
            disk_free_bytes_min: number;
            jobs_running_max: number;
            memory_bytes_max: number;
            samples: number;
            version: string;
        };
        VitalsSeries: {
            points: components["schemas"]["VitalsPoint"][];
            presence: components["schemas"]["PresenceSpan"][];
            /** Format: date-time */
            since: string;
            step_s: number;
            /** Format: date-time */
            until: string;
        };
        WaitingReason: {
            /** @enum {string} */
            code: "blocked_by_job" | "scheduled" | "lock_held" | "agent_paused" | "agent_never_enrolled" | "agent_offline" | "agent_revoked" | "agent_busy" | "retry_delayed" | "awaiting_claim" | "token_tampered" | "awaiting_approval" | "customer_paused" | "customer_window" | "awaiting_customer_approval" | "running" | "cancelling";
            detail: string;
            unblock: string;
        };
        Webhook: {
            /** Format: date-time */
            created_at: string;
            description?: string;
            disabled_reason?: string;
            enabled: boolean;
            events: string[];
            /** Format: date-time */
            failing_since?: string;
            id: string;
            url: string;
        };
        WebhookDelivery: {
            attempts: number;
            /** Format: date-time */
            created_at: string;
            event_id?: string;
            event_type: string;
            /** Format: date-time */
            finished_at?: string;
            id: string;
            last_error?: string;
            last_status?: number;
            /** Format: date-time */
            next_attempt_at?: string;
            payload: {
                [key: string]: unknown;
            };
            /** @enum {string} */
            status: "pending" | "delivered" | "failed";
            webhook_id: string;
        };
        WebhookDeliveryPage: {
            data: components["schemas"]["WebhookDelivery"][];
            next_cursor?: string;
        };
        WebhookPage: {
            data: components["schemas"]["Webhook"][];
            next_cursor?: string;
        };
        WebhookSettings: {
            description?: string;
            enabled?: boolean;
            events?: string[];
            url: string;
        };
        WebhookWithSecret: {
            /** Format: date-time */
            created_at: string;
            description?: string;
            disabled_reason?: string;
            enabled: boolean;
            events: string[];
            /** Format: date-time */
            failing_since?: string;
            id: string;
            secret: string;
            url: string;
        };
        Welcome: {
            job_key_vouchers?: components["schemas"]["Envelope"][];
            job_keys: string[];
            nats_jwt: string;
            /** Format: date-time */
            nats_jwt_expires_at: string;
            /** Format: date-time */
            server_time: string;
            slots: number;
            vendor_keys: string[];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    getEntrance: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Entrance"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getError: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                code: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ErrorEntry"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getOpenApi: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": Record<string, never>;
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listAgents: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AgentPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Agent"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    drainAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["IntakeRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Agent"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createAgentEnrolmentToken: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EnrolmentToken"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    pauseAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["IntakeRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Agent"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    resumeAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["IntakeRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Agent"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    revokeAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Agent"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    updateAgentSettings: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                agent_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["AgentSettings"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Agent"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    enrolAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EnrolRequest"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Enrolment"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    renewAgent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Envelope"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Welcome"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listApiKeys: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeySummaryPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createScopedApiKey: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewApiKey"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["NewKeyShownOnce"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getApiKey: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeySummary"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    revokeApiKey: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                key_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["KeySummary"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listApps: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AppPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createApp: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewApp"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["App"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getApp: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["App"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    updateApp: {
        parameters: {
            query?: never;
            header: {
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["AppSettings"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["App"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listBuilds: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BuildPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createBuilds: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewBuilds"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BuildPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listChannels: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ChannelPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createChannel: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewChannel"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Channel"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listComponents: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ComponentPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createComponent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewComponent"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Component"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listReleases: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ReleasePage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createRelease: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                app_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewRelease"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Release"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listAudit: {
        parameters: {
            query?: {
                action?: string;
                actor?: string;
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getBuild: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                build_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Build"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getChannel: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Channel"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    updateChannel: {
        parameters: {
            query?: never;
            header: {
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ChannelSettings"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Channel"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    promoteRelease: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                channel_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Promotion"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Channel"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getComponent: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                component_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Component"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    updateComponent: {
        parameters: {
            query?: never;
            header: {
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                component_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ComponentSpec"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Component"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listDeadLetters: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
                status?: "open" | "redriven" | "discarded";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetterPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getDeadLetter: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                dead_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetter"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    discardDeadLetter: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                dead_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetter"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    redriveDeadLetter: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                dead_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetter"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getDeployment: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
                /** @description `wait=N`: answer when the work has ended, or after N seconds (at most 60) as it is then. */
                Prefer?: string;
            };
            path: {
                deployment_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deployment"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    cancelDeployment: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                deployment_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CancelRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deployment"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listDeploymentEvents: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                deployment_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    extendWork: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                deployment_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewWork"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deployment"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    retryDeployment: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                deployment_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RetryRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deployment"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listFleet: {
        parameters: {
            query?: {
                app_id?: string;
                cursor?: string;
                health?: "deploying" | "failed" | "absent" | "unknown" | "healthy";
                limit?: number;
                q?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FleetPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listInstalls: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["InstallPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createInstall: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewInstall"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Install"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getInstall: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Install"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    updateInstall: {
        parameters: {
            query?: never;
            header: {
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["InstallSettings"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Install"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listInstallComponents: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ComponentStatePage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listDeployments: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeploymentPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createDeployment: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewDeployment"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deployment"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    deprovisionInstall: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Deprovision"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Install"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createInstallEnrolmentToken: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EnrolmentToken"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listInstallEvents: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    readInstallHistory: {
        parameters: {
            query?: {
                cursor?: string;
                kind?: "install" | "deployment" | "job" | "plan" | "agent" | "token" | "other";
                limit?: number;
                since?: string;
                until?: string;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HistoryPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    exportInstallHistory: {
        parameters: {
            query?: {
                kind?: "install" | "deployment" | "job" | "plan" | "agent" | "token" | "other";
                since?: string;
                until?: string;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/x-ndjson": components["schemas"]["HistoryEntry"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createWork: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewWork"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Deployment"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    searchInstallLogs: {
        parameters: {
            query?: {
                cursor?: string;
                job_id?: string;
                level?: "debug" | "info" | "warn" | "error";
                limit?: number;
                q?: string;
                regex?: boolean;
                since?: string;
                step?: string;
                until?: string;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LogHitPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listObservations: {
        parameters: {
            query?: {
                component?: string;
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ObservationPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    observeInstall: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listPullTokens: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PullTokenPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listInstallVitals: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VitalsPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    readInstallVitalsSeries: {
        parameters: {
            query?: {
                points?: number;
                since?: string;
                until?: string;
            };
            header?: never;
            path: {
                install_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VitalsSeries"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listJobs: {
        parameters: {
            query?: {
                cursor?: string;
                deployment_id?: string;
                install_id?: string;
                limit?: number;
                status?: "blocked" | "queued" | "running" | "cancelling" | "succeeded" | "failed" | "cancelled" | "skipped";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
                /** @description `wait=N`: answer when the work has ended, or after N seconds (at most 60) as it is then. */
                Prefer?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listAttempts: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AttemptPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    cancelJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CancelRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listJobEvents: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EventPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    readJobLogs: {
        parameters: {
            query?: {
                after?: string;
                follow?: boolean;
            };
            header?: {
                /** @description Goes on after this line, `<attempt>.<seq>`; stronger than `after`. */
                "Last-Event-ID"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/x-ndjson": components["schemas"]["LogLine"];
                    "text/event-stream": string;
                    "text/plain": string;
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    searchJobLogs: {
        parameters: {
            query?: {
                cursor?: string;
                level?: "debug" | "info" | "warn" | "error";
                limit?: number;
                q?: string;
                regex?: boolean;
                since?: string;
                step?: string;
                until?: string;
            };
            header?: never;
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LogHitPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getJobPlan: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPlan"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    approvePlan: {
        parameters: {
            query?: never;
            header: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PlanNote"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPlan"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    rejectPlan: {
        parameters: {
            query?: never;
            header: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PlanNote"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPlan"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    resumeJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ResumeRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    retryJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    skipJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    readJobTrace: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobTrace"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    unlockJob: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                job_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ReasonRequest"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listLocks: {
        parameters: {
            query?: {
                cursor?: string;
                install_id?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LockPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getPullToken: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                token_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PullToken"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    revokePullToken: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                token_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["PullToken"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getRelease: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                release_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Release"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    markBad: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                release_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BadRelease"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Release"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    markGood: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                release_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Release"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getRetention: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Retention"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    setRetention: {
        parameters: {
            query?: never;
            header: {
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Retention"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Retention"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getLogUsage: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LogUsage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listRollouts: {
        parameters: {
            query?: {
                app_id?: string;
                cursor?: string;
                limit?: number;
                status?: "running" | "paused" | "stopped" | "succeeded" | "cancelled";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RolloutPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createRollout: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewRollout"];
            };
        };
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rollout"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getRollout: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                rollout_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rollout"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    cancelRollout: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                rollout_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RolloutChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rollout"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listRolloutInstalls: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
                status?: "pending" | "waiting" | "deploying" | "parked" | "succeeded" | "failed" | "skipped";
            };
            header?: never;
            path: {
                rollout_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RolloutInstallPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    pauseRollout: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                rollout_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RolloutChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rollout"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    resumeRollout: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                rollout_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RolloutChange"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Rollout"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    signIn: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SignIn"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    signOut: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SignedOut"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createSignInLink: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["SignInLink"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getVendor: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vendor"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    signUpVendor: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["NewVendor"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VendorAccount"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createApiKey: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                vendor_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ApiKey"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getWebhookDelivery: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                delivery_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookDelivery"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    redeliverWebhook: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                delivery_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookDelivery"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listWebhooks: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    createWebhook: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WebhookSettings"];
            };
        };
        responses: {
            /** @description Done. */
            201: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookWithSecret"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    getWebhook: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that is known already: answers 304 when it still holds. */
                "If-None-Match"?: string;
            };
            path: {
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            /** @description Not changed since the ETag in If-None-Match. */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    updateWebhook: {
        parameters: {
            query?: never;
            header: {
                /** @description The ETag of the version that the change was made on. */
                "If-Match": string;
            };
            path: {
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["WebhookSettings"];
            };
        };
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Version of the resource, for If-Match and If-None-Match. */
                    ETag?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    deleteWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    listWebhookDeliveries: {
        parameters: {
            query?: {
                cursor?: string;
                limit?: number;
                status?: "pending" | "delivered" | "failed";
            };
            header?: never;
            path: {
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookDeliveryPage"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    rotateWebhookSecret: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Done. */
            200: {
                headers: {
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookWithSecret"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
    testWebhook: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key and body again within 24 hours get the same answer; nothing is made twice. */
                "Idempotency-Key"?: string;
            };
            path: {
                webhook_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Accepted; the work goes on. Location tells where to follow it. */
            202: {
                headers: {
                    /** @description Where to read what was made. */
                    Location?: string;
                    /** @description Names this request in logs and errors. */
                    "X-Request-Id"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookDelivery"];
                };
            };
            /** @description What went wrong, by `code`, and what to do next (RFC 9457). */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["ProblemDocument"];
                };
            };
        };
    };
}
