// A guest in C: an interpreter's switch, sorting through a function pointer, floats, structs, recursion.
// Build: clang --target=wasm32 -O2 -nostdlib -mbulk-memory -msimd128 -mmultivalue -fno-builtin-memcpy -Wl,--no-entry -o clang.wasm clang.c
#define EXPORT(n) __attribute__((export_name(#n)))
typedef unsigned u32; typedef unsigned long long u64;
static unsigned char heap[1<<16];
static u32 st=1; static u32 rnd(void){ st=st*1664525+1013904223; return st>>8; }
// a byte-code interpreter: switch in a loop
EXPORT(interp) int interp(int n){ int acc=1,r=0,pc=0; unsigned char code[64]; for(int i=0;i<64;i++)code[i]=(i*37+11)%9;
 while(n-->0){ switch(code[pc]){case 0:acc+=r;break;case 1:r^=acc*3;break;case 2:acc=acc*5+1;break;case 3:if(acc&1)pc=(pc+3)&63;break;case 4:r=(r<<3)|((u32)r>>29);break;case 5:heap[(u32)acc&0xffff]=r;break;case 6:r+=heap[(u32)r&0xffff];break;case 7:acc-=r;break;default:acc=~acc;} pc=(pc+1)&63;} return acc^r; }
static int cmp(const void*a,const void*b){ return *(const int*)a<*(const int*)b?-1:*(const int*)a>*(const int*)b; }
static void qs(int*a,int l,int h,int(*c)(const void*,const void*)){ if(l>=h)return; int p=a[(l+h)/2],i=l,j=h; while(i<=j){ while(c(&a[i],&p)<0)i++; while(c(&a[j],&p)>0)j--; if(i<=j){int t=a[i];a[i]=a[j];a[j]=t;i++;j--;} } qs(a,l,j,c); qs(a,i,h,c); }
EXPORT(sort) int sort(int n){ static int a[4096]; if(n>4096)n=4096; for(int i=0;i<n;i++)a[i]=rnd(); qs(a,0,n-1,cmp); int h=0; for(int i=0;i<n;i++)h=h*31+a[i]; return h; }
EXPORT(dbl) double dbl(int n){ double s=0; for(int i=1;i<=n;i++){ double x=(double)rnd()/i; s+=__builtin_sqrt(x)-x/(s+1.0); if(s>1e6)s-=1e6; } return s; }
struct s{ double a; u64 b; int c[5]; };
static struct s mk(int i){ struct s r={i*0.5,(u64)i*i,{i,i+1,i+2,i+3,i+4}}; return r; }
EXPORT(structs) u64 structs(int n){ u64 h=0; for(int i=0;i<n;i++){ struct s x=mk(i), y=mk(h&15); h=h*31+x.b+y.c[i%5]+(u64)x.a; __builtin_memcpy(heap+(h&0x7fff),&x,sizeof x);} return h; }
static int ack(int m,int n){ return m==0?n+1: n==0?ack(m-1,1):ack(m-1,ack(m,n-1)); }
EXPORT(acker) int acker(int n){ return ack(2,n%60); }
