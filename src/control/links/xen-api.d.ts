/** The package has no types of its own: what is used of it here, and the little the tests look at. */
declare module 'xen-api' {
  export interface XapiOptions {
    url: string;
    auth: { user: string; password: string };
    allowUnauthorized?: boolean;
    watchEvents?: boolean | string[];
    /** Milliseconds. */
    callTimeout?: number | ((method: string, args: unknown[]) => number);
    callConcurrency?: number;
    roCallRetryOptions?: { tries?: number; delay?: number };
    [more: string]: unknown;
  }
  export class Xapi {
    constructor(options: XapiOptions);
    readonly status: 'connected' | 'connecting' | 'disconnected';
    readonly sessionId: string;
    connect(): Promise<void>;
    disconnect(): Promise<void>;
    call(method: string, ...args: unknown[]): Promise<unknown>;
    /** Called by the constructor, after it made the connections' dispatcher and before anything uses it. */
    protected _setUrl(url: unknown): void;
    protected _undiciDispatcher: unknown;
  }
  export function createClient(options: object): any;
}
